"""Push notifications: posted to a real HTTP server, or written to files."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from adapters.notifications.push import PushFiles, PushGateway
from commands.ports.notifications import NotDelivered
from tests.support.metrics import calls_counted
from tests.support.servers.mail import a_message
from tests.support.servers.shared import free_port

POSTED = {
    "id": str(a_message().notification_id),
    "user_id": str(a_message().user_id),
    "template": "purchase",
    "title": "Your purchase",
    "body": "Hello Ann,\n\nThank you.\n",
}


@dataclass
class Gateway:
    """Records what is posted; answers with `answers`."""

    url: str = ""
    answers: list[web.Response] = field(default_factory=list)
    requests: list[tuple[dict[str, str], object]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.requests.append((dict(request.headers), await request.json()))
        return self.answers.pop(0) if self.answers else web.json_response({"id": "push-1"})


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Gateway]:
    gateway = Gateway()
    app = web.Application()
    app.router.add_post("/push", gateway.take)
    async with TestServer(app) as server:
        gateway.url = str(server.make_url("/push"))
        yield gateway


@pytest_asyncio.fixture
async def transport(gateway: Gateway) -> AsyncIterator[PushGateway]:
    transport = PushGateway(gateway.url)
    yield transport
    await transport.aclose()


async def test_a_notice_is_posted_under_its_own_id(
    gateway: Gateway, transport: PushGateway
) -> None:
    assert await transport.send(a_message()) == "push-1"
    ((headers, posted),) = gateway.requests
    assert posted == POSTED
    assert headers["Idempotency-Key"] == POSTED["id"]


@pytest.mark.parametrize("body", ["", "taken", '{"id": 7}', "[]"])
async def test_a_gateway_need_not_name_a_reference(
    gateway: Gateway, transport: PushGateway, body: str
) -> None:
    gateway.answers = [web.Response(status=202, text=body)]
    assert await transport.send(a_message()) == POSTED["id"]


async def test_a_temporary_no_is_told_from_a_permanent_one(
    gateway: Gateway, transport: PushGateway
) -> None:
    told = {
        410: "recipient_refused",
        404: "recipient_refused",
        422: "message_refused",
        302: "message_refused",
    }
    told |= {401: "login_refused", 429: "try_later", 500: "try_later", 503: "try_later"}
    gateway.answers = [
        web.Response(status=status, headers={"Location": gateway.url}) for status in told
    ]
    before = {each: calls_counted("push", each) for each in ("refused", "failed")}
    for code in told.values():
        with pytest.raises(NotDelivered, match=code):
            await transport.send(a_message())
    assert calls_counted("push", "refused") == before["refused"] + 5
    assert calls_counted("push", "failed") == before["failed"] + 3
    assert len(gateway.requests) == len(told)
    assert await transport.send(a_message()) == "push-1"


async def test_a_gateway_that_is_away_is_unreachable_and_its_password_stays_secret() -> None:
    transport = PushGateway(f"http://shop:hunter2@127.0.0.1:{free_port()}/push")
    with pytest.raises(NotDelivered, match="unreachable") as caught:
        await transport.send(a_message())
    assert "hunter2" not in str(caught.value)
    await transport.aclose()


async def test_without_a_gateway_each_notice_is_one_file_that_others_cannot_read(
    tmp_path: Path,
) -> None:
    transport = PushFiles(tmp_path / "push")
    names = {await transport.send(a_message()) for _ in range(2)}
    assert [path.name for path in (tmp_path / "push").iterdir()] == [*names]
    assert json.loads((tmp_path / "push" / names.pop()).read_bytes()) == POSTED
    assert (tmp_path / "push").stat().st_mode & 0o077 == 0
