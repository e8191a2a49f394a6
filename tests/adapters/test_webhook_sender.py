"""Webhooks are sent to a merchant's real server, and never into our own network."""

import asyncio
import base64
import os
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import WebhookVerificationError

from adapters.webhooks.sender import MAX_ANSWER_BYTES, HttpWebhookSender
from commands.ports.webhooks import WebhookMessage, WebhookUnsent
from domain.errors import Invalid
from tests.support.metrics import calls_counted
from tests.support.servers.merchant import Merchant, running_merchant
from tests.support.servers.shared import free_port

BODY = (
    '{"type":"order.completed.v1","timestamp":"2026-03-01T12:00:00Z","data":{"title":"Pokémon"}}'
).encode()


def a_secret() -> str:
    return "whsec_" + base64.b64encode(os.urandom(32)).decode()


SECRET = a_secret()


def message(url: str, *secrets: str, **said: Any) -> WebhookMessage:
    sent_at = said.pop("sent_at", datetime.now(UTC))
    return WebhookMessage("msg-1", url, BODY, secrets or (SECRET,), sent_at)


@pytest.fixture
async def merchant() -> AsyncIterator[Merchant]:
    async with running_merchant() as merchant:
        yield merchant


@pytest.fixture
async def sender() -> AsyncIterator[HttpWebhookSender]:
    sender = HttpWebhookSender(private="allow", timeout_seconds=5)
    yield sender
    await sender.aclose()


@pytest.fixture
async def careful() -> AsyncIterator[HttpWebhookSender]:
    """With the check of addresses that production uses."""
    sender = HttpWebhookSender(timeout_seconds=5)
    yield sender
    await sender.aclose()


async def test_a_message_arrives_signed_as_the_standard_says(
    sender: HttpWebhookSender, merchant: Merchant
) -> None:
    sent = message(merchant.url)
    assert await sender.send(sent) == 200
    (arrived,) = merchant.arrived
    assert arrived.verified(SECRET)["data"] == {"title": "Pokémon"}
    assert (arrived.body, arrived.id) == (BODY, "msg-1")
    assert arrived.headers["webhook-timestamp"] == str(int(sent.sent_at.timestamp()))
    assert arrived.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        arrived.verified(a_secret())


async def test_while_a_secret_is_being_rotated_either_verifies(
    sender: HttpWebhookSender, merchant: Merchant
) -> None:
    new, old = a_secret(), a_secret()
    await sender.send(message(merchant.url, new, old))
    (arrived,) = merchant.arrived
    assert arrived.verified(new) == arrived.verified(old)


async def test_an_old_message_is_not_taken_for_a_new_one(
    sender: HttpWebhookSender, merchant: Merchant
) -> None:
    await sender.send(message(merchant.url, sent_at=datetime.now(UTC) - timedelta(minutes=6)))
    with pytest.raises(WebhookVerificationError, match="too old"):
        merchant.arrived[0].verified(SECRET)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (204, "ok"),
        (400, "refused"),
        (410, "refused"),
        (429, "failed"),
        (500, "failed"),
        (503, "failed"),
    ],
)
async def test_the_status_is_told_and_counted_whatever_it_is(
    sender: HttpWebhookSender, merchant: Merchant, status: int, outcome: str
) -> None:
    merchant.statuses = [status]
    before = calls_counted("merchants", outcome)
    assert await sender.send(message(merchant.url)) == status
    assert calls_counted("merchants", outcome) == before + 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    sender: HttpWebhookSender, merchant: Merchant, status: int
) -> None:
    async def elsewhere(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": merchant.url})

    merchant.reply = elsewhere
    assert await sender.send(message(merchant.url)) == status
    assert len(merchant.arrived) == 1


async def test_no_cookie_is_kept(sender: HttpWebhookSender, merchant: Merchant) -> None:
    async def baking(_: web.Request) -> web.Response:
        return web.Response(headers={"Set-Cookie": "a=b"})

    merchant.reply = baking
    await sender.send(message(merchant.url))
    await sender.send(message(merchant.url))
    assert "cookie" not in merchant.arrived[1].headers


async def test_who_does_not_answer_in_time_is_tried_later(merchant: Merchant) -> None:
    done = asyncio.Event()

    async def never(_: web.Request) -> web.Response:
        await done.wait()
        return web.Response()

    merchant.reply = never
    sender = HttpWebhookSender(private="allow", timeout_seconds=0.05)
    with pytest.raises(WebhookUnsent, match="timeout"):
        await sender.send(message(merchant.url))
    done.set()
    await sender.aclose()


async def test_an_answer_whose_body_never_ends_is_judged_by_its_status(merchant: Merchant) -> None:
    done = asyncio.Event()

    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=201)
        await response.prepare(request)
        await response.write(b"so far so good")
        await done.wait()
        return response

    merchant.reply = dripping
    sender = HttpWebhookSender(private="allow", timeout_seconds=0.1)
    assert await sender.send(message(merchant.url)) == 201
    done.set()
    await sender.aclose()


async def test_of_a_long_answer_no_more_is_read_than_a_little(
    sender: HttpWebhookSender, merchant: Merchant
) -> None:
    written = 0

    async def flooding(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * MAX_ANSWER_BYTES)
            written += MAX_ANSWER_BYTES

    merchant.reply = flooding
    assert await sender.send(message(merchant.url)) == 200  # though its body never ends
    assert written < 100 * MAX_ANSWER_BYTES


async def test_what_is_no_http_is_told_as_such(sender: HttpWebhookSender) -> None:
    async def chat(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp.example ESMTP\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(chat, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(WebhookUnsent, match="malformed_answer"):
            await sender.send(message(f"http://127.0.0.1:{port}/"))


async def test_nobody_there_is_told_as_such(sender: HttpWebhookSender) -> None:
    for url in (f"http://127.0.0.1:{free_port()}/", "http://nowhere.invalid/"):
        with pytest.raises(WebhookUnsent, match="unreachable"):
            await sender.send(message(url))


async def test_a_certificate_that_nobody_vouches_for_is_not_believed(
    sender: HttpWebhookSender,
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    app = web.Application()
    async with TestServer(app, scheme="https") as server:
        await server.start_server(ssl=context)
        with pytest.raises(WebhookUnsent, match="tls_failed"):
            await sender.send(message(str(server.make_url("/hook"))))


# -- our own network -------------------------------------------------------------------------------

FORMS = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "localhost",
    "[::1]",
    "[::ffff:127.0.0.1]",
]
"""Forms of this machine's address in a URL: resolvers accept numbers of several kinds."""


def resolving(monkeypatch: pytest.MonkeyPatch, name: str, address: str) -> None:
    """From now on a name resolves to an address; its owner may change that at any time."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        return real(address if host == name else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("form", FORMS)
async def test_an_endpoint_in_our_own_network_is_refused_when_it_is_made(
    careful: HttpWebhookSender, form: str
) -> None:
    with pytest.raises(Invalid, match="webhook_url_refused"):
        await careful.check(f"https://{form}/hook")


@pytest.mark.parametrize("form", FORMS)
async def test_nothing_is_sent_into_our_own_network(
    careful: HttpWebhookSender, merchant: Merchant, form: str
) -> None:
    port = merchant.url.rpartition(":")[2]
    with pytest.raises(WebhookUnsent, match=r"address_refused|unreachable"):
        await careful.send(message(f"https://{form}:{port}"))
    assert merchant.arrived == []


@pytest.mark.parametrize(
    "address", ["10.0.0.8", "169.254.169.254", "fd00:ec2::254", "::ffff:10.0.0.8"]
)
async def test_a_name_that_resolves_to_a_private_address_is_refused(
    careful: HttpWebhookSender, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    resolving(monkeypatch, "merchant.example", address)
    with pytest.raises(Invalid, match="webhook_url_refused"):
        await careful.check("https://merchant.example/hook")
    with pytest.raises(WebhookUnsent, match="address_refused"):
        await careful.send(message("https://merchant.example/hook"))


async def test_a_name_that_turns_private_after_it_was_checked_is_not_called(
    careful: HttpWebhookSender, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, "merchant.example", "93.184.215.14")
    await careful.check("https://merchant.example/hook")
    resolving(monkeypatch, "merchant.example", "127.0.0.1")
    port = merchant.url.rpartition(":")[2]
    with pytest.raises(WebhookUnsent, match="address_refused"):
        await careful.send(message(f"https://merchant.example:{port}"))
    assert merchant.arrived == []


async def test_a_name_that_cannot_be_resolved_now_may_be_so_later(
    careful: HttpWebhookSender,
) -> None:
    await careful.check("https://nowhere.invalid/hook")


async def test_an_endpoint_made_during_development_is_not_called_in_production(
    careful: HttpWebhookSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, "merchant.example", "93.184.215.14")
    with pytest.raises(WebhookUnsent, match="address_refused"):
        await careful.send(message("http://merchant.example/hook"))


async def test_for_development_this_machine_may_be_called(
    sender: HttpWebhookSender, merchant: Merchant
) -> None:
    await sender.check(merchant.url)
    assert await sender.send(message(merchant.url.replace("127.0.0.1", "localhost"))) == 200
