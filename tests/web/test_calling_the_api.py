"""Calls of an application in the same process, over HTTP and by WebSockets."""

import asyncio
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from web.api_client import Api, Problem
from web.sockets import SERVICE_RESTART, SocketClosed, Sockets

SCOPE: Scope = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "scheme": "https",
    "client": ("192.0.2.7", 4711),
    "server": ("shop", 443),
}


class Seen(msgspec.Struct, frozen=True):
    method: str
    url: str
    client: str
    headers: dict[str, str]
    body: Any


async def echo(request: Request) -> Response:
    body = await request.body()
    assert request.client is not None
    seen = Seen(
        request.method,
        str(request.url),
        request.client.host,
        dict(request.headers),
        msgspec.json.decode(body) if body else None,
    )
    return JSONResponse(msgspec.to_builtins(seen))


async def refuse(_: Request) -> Response:
    problem = {
        "code": "invalid_request",
        "detail": "some fields are invalid",
        "errors": [{"field": "a.b", "message": "missing", "code": "missing", "pointer": "#/a/b"}],
        "order_id": "7",
    }
    return JSONResponse(problem, 422, {"Retry-After": "3"})


async def refuse_oddly(_: Request) -> Response:
    return Response("<html>", 502)


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    raise ZeroDivisionError


@pytest.fixture
def over() -> asyncio.Event:
    return asyncio.Event()


@pytest.fixture
def api(over: asyncio.Event) -> Api:
    async def work_later(_: Request) -> Response:
        return JSONResponse({}, background=BackgroundTask(over.wait))

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text((await socket.receive_text()).upper())
        await socket.close(4401, "token_expired")

    routes = [
        Route("/echo", echo, methods=["GET", "POST", "PUT", "DELETE"]),
        Route("/refuse", refuse),
        Route("/odd", refuse_oddly),
        Route("/later", work_later),
        WebSocketRoute("/talk", talk),
    ]
    app = Starlette(routes=routes)
    return Api(app, SCOPE, {"host": "shop", "accept-language": "pt"})


async def test_a_call_is_the_clients_own(api: Api) -> None:
    api.token = "abc"

    seen = await api.post("/echo", {"a": 1}, Seen, once="key", q="x y", missing=None, yes=True)

    assert (seen.method, seen.client, seen.body) == ("POST", "192.0.2.7", {"a": 1})
    assert seen.url == "https://shop/echo?q=x+y&yes=true"
    assert seen.headers == {
        "host": "shop",
        "accept-language": "pt",
        "authorization": "Bearer abc",
        "idempotency-key": "key",
        "content-type": "application/json",
        "content-length": "7",
    }
    assert (await api.get("/echo", Seen)).body is None


async def test_a_refusal_has_its_code_fields_and_the_rest(api: Api) -> None:
    with pytest.raises(Problem) as refused:
        await api.get("/refuse", Seen)

    problem = refused.value
    assert (problem.code, problem.status, problem.retry_after) == ("invalid_request", 422, 3)
    assert [(each.field, each.message) for each in problem.errors] == [("a.b", "missing")]
    assert problem.extra == {"order_id": "7"}

    with pytest.raises(Problem, match="internal_error"):
        await api.get("/odd", Seen)


async def test_a_failure_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        await Api(failing, SCOPE, {}).get("/echo", Seen)


async def test_what_is_done_after_an_answer_is_not_waited_for(
    api: Api, over: asyncio.Event
) -> None:
    async with asyncio.timeout(10):
        await api.get("/later", dict)
    assert not over.is_set()
    over.set()


async def test_a_socket_is_talked_to_until_it_is_closed(api: Api) -> None:
    sockets = Sockets(api._app)
    async with sockets.open(api.scope_of("websocket", "/talk")) as socket:
        await socket.send("hello")
        assert await socket.receive() == "HELLO"
        with pytest.raises(SocketClosed, match="4401 token_expired"):
            await socket.receive()


async def test_open_sockets_end_when_the_process_stops(api: Api) -> None:
    sockets = Sockets(api._app)
    async with sockets.open(api.scope_of("websocket", "/talk")) as socket:
        sockets.close()
        with pytest.raises(SocketClosed, match=str(SERVICE_RESTART)):
            await socket.receive()
    sockets.close()


async def test_nothing_gathers_for_who_does_not_read() -> None:
    sent = 0

    async def flood(socket: WebSocket) -> None:
        nonlocal sent
        await socket.accept()
        for _ in range(1_000):
            await socket.send_text("more")
            sent += 1

    app = Starlette(routes=[WebSocketRoute("/flood", flood)])
    sockets = Sockets(app)
    async with sockets.open(Api(app, SCOPE, {}).scope_of("websocket", "/flood")) as socket:
        for _ in range(3):
            assert await socket.receive() == "more"
        assert sent <= 5

        sockets.close()
        with pytest.raises(SocketClosed, match=str(SERVICE_RESTART)):
            await socket.receive()
