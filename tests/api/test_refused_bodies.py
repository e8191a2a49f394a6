"""A refused body is not kept in memory: processes that run for long collect garbage rarely."""

import gc
import json
import tracemalloc
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.types import Message

from api.app import create_app
from tests.support.shops.small_gateway import services

BIG = "x" * 500_000
REQUESTS = 10


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


async def status_of(app: FastAPI, path: str, body: bytes) -> int:
    """Asks without a client, which would keep the body itself."""
    sent: list[Message] = []
    bodies = [body]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": bodies.pop()}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        pytest.param("/api/v1/users", 400, f'{{"name": {BIG}', id="no JSON"),
        pytest.param("/api/v1/users", 422, json.dumps({"name": BIG}), id="wrong fields"),
        pytest.param("/api/v1/users", 413, json.dumps({"name": 3 * BIG}), id="too large"),
        pytest.param("/api/v1/games", 401, json.dumps({"title": BIG}), id="nobody's"),
    ],
)
async def test_a_refused_body_is_not_kept(path: str, status: int, body: str) -> None:
    app = create_app(services())
    assert await status_of(app, path, body.encode()) == status
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(REQUESTS):
        await status_of(app, path, body.encode())
    after, _ = tracemalloc.get_traced_memory()
    assert after - before < len(BIG)
