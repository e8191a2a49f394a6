"""Connections over real sockets: clients that send little, slowly or too much are refused, and
delay nobody."""

import asyncio
import base64
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import uvicorn
from fastapi import APIRouter, Request, WebSocket
from fastapi.responses import Response, StreamingResponse

from api.app import gateway
from api.auth import EVERYBODY
from api.fields import Body, Prose
from runtime.processes.connections import Limits
from runtime.processes.servers import config_of
from tests.support.shops.small_gateway import services

SHORT, PATIENCE = 0.2, 30
GET = b"GET /api/v1/things HTTP/1.1\r\nHost: shop\r\n"
POST = b"POST /api/v1/things HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
KEY = base64.b64encode(bytes(16))
LONG = b"x" * 20_000_000
"""More than the kernel takes for a client that does not read."""
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


class Thing(Body):
    text: Prose = ""


def things(begun: asyncio.Event) -> APIRouter:
    router = APIRouter(dependencies=[EVERYBODY])

    @router.get("/api/v1/things")
    async def show() -> str:
        return "shown"

    @router.post("/api/v1/things")
    async def make(body: Thing) -> int:
        return len(body.text)

    @router.get("/api/v1/long")
    async def long() -> Response:
        return Response(LONG)

    @router.get("/api/v1/parts")
    async def parts() -> StreamingResponse:
        return StreamingResponse(iter([LONG[:100_000]] * 200))

    @router.post("/api/v1/deaf")
    async def ignore(request: Request) -> str:
        return "not read"

    @router.get("/api/v1/never")
    async def never() -> None:
        begun.set()
        await asyncio.Event().wait()

    @router.websocket("/api/v1/never")
    async def accept_never(_: WebSocket) -> None:
        begun.set()
        await asyncio.Event().wait()

    return router


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, bytes, bytes]:
        """Status, head and body of the next response."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if b"content-length" in line
            )
            return int(head.split()[1]), head.lower(), await self.reader.readexactly(length)

    async def ended(self) -> bool:
        """Whether the server closes the connection without sending anything more."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True


class Server:
    def __init__(self, server: uvicorn.Server, port: int, begun: asyncio.Event) -> None:
        self.server = server
        self.port = port
        self.begun = begun
        self.clients: list[Client] = []

    async def connect(self, data: bytes = b"") -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        await client.send(data)
        return client


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[Server]:
    """Services, served as `ludoteca api` serves them."""
    begun = asyncio.Event()
    config = config_of(gateway(services(), [things(begun)]), "127.0.0.1", 0, Limits(**limits))
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.create_task(server.serve(sockets=[listening]))
        clients = Server(server, listening.getsockname()[1], begun)
        try:
            yield clients
        finally:
            for client in clients.clients:
                client.writer.close()
            server.should_exit = True
            await task


def code(answer: tuple[int, bytes, bytes]) -> tuple[int, str]:
    status, head, body = answer
    assert b"application/problem+json" in head
    assert b"x-content-type-options: nosniff" in head
    assert b"connection: close" in head
    return status, orjson.loads(body)["code"]


# -- too much --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X: " + b"x" * 70_000,
        GET + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        GET + b"X: " + b"x" * 5_000_000,
        GET + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        POST + b"X: " + b"x" * 70_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["unfinished", "whole", "millions", "many", "path", "with a body"],
)
async def test_a_head_over_64_kib_is_refused(head: bytes) -> None:
    async with serving() as server:
        client = await server.connect()
        sending = asyncio.create_task(client.send(head))

        assert code(await client.answer()) == (431, "head_too_large")
        assert await client.ended()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert (await (await server.connect(GET + b"\r\n")).answer())[0] == 200


async def test_a_head_of_nearly_64_kib_is_taken_however_long_its_body_is() -> None:
    async with serving() as server:
        text = b'{"text": "' + b"x" * 15_000 + b'"}' + b" " * 900_000
        length = b"Content-Length: %d\r\n\r\n" % len(text)
        client = await server.connect(POST + b"X: " + b"x" * 60_000 + b"\r\n" + length + text)
        assert await client.answer() != (200, b"", b"")
        await client.send(GET + b"X: " + b"x" * 60_000 + b"\r\n\r\n")
        assert (await client.answer())[0] == 200


async def test_a_body_that_nobody_reads_does_not_go_on_for_ever() -> None:
    async with serving(message_bytes=100_000) as server:
        client = await server.connect(b"POST /api/v1/deaf HTTP/1.1\r\nHost: shop\r\n" + CHUNKED)
        status, _, _ = await client.answer()
        sending = asyncio.create_task(client.send(b"200000\r\n" + b"x" * 0x200000))

        assert status == 200
        assert await client.ended()
        await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        GET + b"X: \x00\r\n\r\n",
        GET + b"X y\r\n\r\n",
    ],
)
async def test_a_request_that_is_no_http_gets_400(request_: bytes) -> None:
    async with serving() as server:
        client = await server.connect(request_)

        assert code(await client.answer()) == (400, "malformed_request")
        assert await client.ended()


async def test_only_a_get_begins_a_websocket() -> None:
    async with serving(body_seconds=SHORT) as server:
        upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        asked = await server.connect(POST + upgrade + b"Content-Length: 2\r\n\r\n{}")
        # answered, ignoring the bytes where the other protocol would begin
        assert (await asked.answer())[0] == 422
        keyless = await server.connect(GET + upgrade + b"Sec-WebSocket-Version: 13\r\n\r\n")
        assert (await keyless.answer())[0] == 400
        with_body = await server.connect(GET + upgrade + b"Content-Length: 200000\r\n\r\n")
        assert (await with_body.answer())[0] == 400


# -- too slow --------------------------------------------------------------------------------------


async def test_a_head_that_does_not_come_in_time_is_refused_however_often_some_of_it_comes() -> (
    None
):
    async with serving(head_seconds=SHORT) as server:
        client = await server.connect(GET)

        async def drip() -> None:
            while True:
                await client.send(b"X: y\r\n")
                await asyncio.sleep(SHORT / 10)

        dripping = asyncio.create_task(drip())
        assert code(await client.answer()) == (408, "too_slow")
        assert await client.ended()
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


async def test_a_body_that_does_not_come_in_time_is_refused() -> None:
    async with serving(body_seconds=SHORT) as server:
        for request in (POST + b"Content-Length: 20\r\n\r\n{", POST + CHUNKED + b"1\r\n{\r\n"):
            client = await server.connect(request)

            assert code(await client.answer()) == (408, "too_slow")
            assert await client.ended()


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with serving(head_seconds=SHORT) as server:
        assert await (await server.connect()).ended()


async def test_a_connection_that_is_kept_has_as_long_for_each_request() -> None:
    async with serving(head_seconds=SHORT, body_seconds=SHORT) as server:
        client = await server.connect()
        for _ in range(4):
            await client.send(GET)
            await asyncio.sleep(SHORT / 2)
            await client.send(b"\r\n")
            assert (await client.answer())[0] == 200
            await client.send(POST + b"Content-Length: 2\r\n\r\n{")
            await asyncio.sleep(SHORT / 2)
            await client.send(b"}")
            assert (await client.answer())[0] == 200


async def test_requests_in_one_piece_are_answered_in_order() -> None:
    async with serving(head_seconds=SHORT) as server:
        client = await server.connect((GET + b"\r\n") * 3 + GET)
        assert [(await client.answer())[0] for _ in range(3)] == [200, 200, 200]
        assert code(await client.answer()) == (408, "too_slow")


# -- answers that are not read ---------------------------------------------------------------------


@pytest.mark.parametrize("path", [b"long", b"parts"])
@pytest.mark.parametrize("head", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
async def test_who_reads_nothing_of_an_answer_is_disconnected(path: bytes, head: bytes) -> None:
    async with serving(unread_seconds=SHORT) as server:
        request = GET.replace(b"things", path) + head + b"\r\n"
        client = await server.connect(GET + b"\r\n")
        assert (await client.answer())[0] == 200
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request)
        async with asyncio.timeout(PATIENCE):
            while server.server.server_state.connections:  # noqa: ASYNC110 - uvicorn tells nobody
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", [b"long", b"parts"])
async def test_who_reads_an_answer_slowly_gets_all_of_it(path: bytes) -> None:
    async with serving(unread_seconds=SHORT) as server:
        client = await server.connect(GET.replace(b"things", path) + b"Connection: close\r\n\r\n")
        received = 0
        async with asyncio.timeout(PATIENCE):
            while part := await client.reader.read(2_000_000):
                received += len(part)
                await asyncio.sleep(SHORT / 20)
    assert received > len(LONG)


# -- too many --------------------------------------------------------------------------------------


async def test_a_connection_too_many_is_refused_and_those_before_it_are_served() -> None:
    async with serving(connections=3) as server:
        first = [await server.connect(GET + b"\r\n") for _ in range(3)]
        assert [(await client.answer())[0] for client in first] == [200, 200, 200]

        fourth = await (await server.connect(GET + b"\r\n")).answer()
        assert code(fourth) == (503, "too_many_connections")
        assert b"retry-after: 1" in fourth[1]
        await first[0].send(GET + b"\r\n")
        assert (await first[0].answer())[0] == 200


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version:"
        b" 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n",
    ],
    ids=["request", "WebSocket"],
)
async def test_a_request_cut_off_as_the_server_stops_gets_503(head: bytes) -> None:
    async with serving() as server:
        server.server.config.timeout_graceful_shutdown = 0
        client = await server.connect(GET.replace(b"things", b"never") + head + b"\r\n")
        await server.begun.wait()
        server.server.should_exit = True
        status, fields, body = await client.answer()

    assert (status, orjson.loads(body)["code"]) == (503, "interrupted")
    assert b"retry-after: 1" in fields
