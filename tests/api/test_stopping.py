"""A process that stops answers what clients have sent to it: on idle connections, and on those that
wait to be accepted."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter

from api.app import gateway
from api.auth import EVERYBODY
from runtime.host.listening import bound_sockets
from runtime.processes.graceful import GracefulServer
from runtime.processes.servers import config_of
from tests.support.shops.small_gateway import services

GET = b"GET /api/v1/things HTTP/1.1\r\nHost: shop\r\n\r\n"
PATIENCE = 30


def things(begun: asyncio.Event, finish: asyncio.Event) -> APIRouter:
    router = APIRouter(dependencies=[EVERYBODY])

    @router.get("/api/v1/things")
    async def show() -> str:
        return "shown"

    @router.get("/api/v1/slow")
    async def wait() -> str:
        begun.set()
        await finish.wait()
        return "waited for"

    return router


class Served:
    """A server, and the sockets that it listens on."""

    def __init__(self) -> None:
        self.begun, self.finish = asyncio.Event(), asyncio.Event()
        config = config_of(gateway(services(), [things(self.begun, self.finish)]), "127.0.0.1", 0)
        config.load()
        self.server = GracefulServer(config)
        self.server.lifespan = config.lifespan_class(config)
        self.sockets = bound_sockets("127.0.0.1", 0)
        self.address = self.sockets[0].getsockname()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    def stop(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.server.shutdown(self.sockets))


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    serving = Served()
    for each in serving.sockets:
        each.setblocking(False)
    await serving.server.startup(serving.sockets)
    async with asyncio.timeout(PATIENCE):
        yield serving


async def answer(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 200")
    assert b"content-length" in head
    await reader.readexactly(int(head.split(b"content-length: ")[1].split()[0]))
    return head


async def test_a_request_on_an_idle_connection_is_answered_though_the_process_stops() -> None:
    async with served() as shop:
        reader, writer = await shop.connect()
        writer.write(GET)
        assert b"connection: close" not in await answer(reader)

        stopping = shop.stop()
        await asyncio.sleep(0)  # its turn
        writer.write(GET)
        assert b"connection: close" in await answer(reader)
        assert await reader.read() == b""
        await stopping


async def test_a_request_that_is_being_answered_gets_its_answer() -> None:
    async with served() as shop:
        reader, writer = await shop.connect()
        writer.write(GET.replace(b"things", b"slow"))
        await shop.begun.wait()

        stopping = shop.stop()
        await asyncio.sleep(0)
        shop.finish.set()
        assert b"connection: close" in await answer(reader)
        assert await reader.read() == b""
        await stopping


async def test_a_connection_that_waits_to_be_accepted_is_answered() -> None:
    async with served() as shop:
        with socket.create_connection(shop.address) as waiting:
            waiting.sendall(GET)
            await shop.server.shutdown(shop.sockets)  # without a turn of the loop in between
            assert waiting.recv(1 << 16).startswith(b"HTTP/1.1 200")


async def test_no_idle_connection_holds_up_the_end() -> None:
    async with served() as shop:
        reader, _ = await shop.connect()
        await shop.stop()
        assert await reader.read() == b""


async def test_who_connects_afterwards_is_refused() -> None:
    async with served() as shop:
        await shop.stop()
        with socket.socket() as late:
            assert late.connect_ex(shop.address) != 0
