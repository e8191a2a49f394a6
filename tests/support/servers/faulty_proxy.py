"""A TCP proxy that misbehaves on demand, between a process and PostgreSQL, RabbitMQ or
Elasticsearch.

It cannot lose packets: the kernels at both ends keep acknowledging what it holds back. So
keepalives do not reveal that a connection through it is dead, which makes it a harder test than a
network that is gone.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Self, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

T = TypeVar("T")

_CHUNK = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST, and drops unsent bytes


class Way(Enum):
    """A direction of traffic."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


BOTH = (Way.TO_SERVER, Way.TO_CLIENT)


@dataclass
class _Lane:
    """One direction of a connection; created within the event loop."""

    passing: asyncio.Event = field(default_factory=asyncio.Event)
    dropping: bool = False
    delay: float = 0.0

    def __post_init__(self) -> None:
        self.passing.set()


class Link:
    """A connection through the proxy. To be used only within the proxy's event loop, by the
    proxy."""

    def __init__(self, client: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self._client, self._server = client, client  # to the server, once connected
        self.lanes = {way: _Lane() for way in BOTH}

    async def run(self, connect: Callable[[], Coroutine[Any, Any, tuple[Any, Any]]]) -> None:
        try:
            await self.lanes[Way.TO_SERVER].passing.wait()
            self._server = await connect()
            await asyncio.gather(
                self._pump(self._client[0], self._server[1], self.lanes[Way.TO_SERVER]),
                self._pump(self._server[0], self._client[1], self.lanes[Way.TO_CLIENT]),
            )
        except OSError:
            self.end(reset=True)
        finally:
            self.end(reset=False)

    @staticmethod
    async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, lane: _Lane) -> None:
        while data := await source.read(_CHUNK):
            await lane.passing.wait()
            if lane.dropping:
                continue
            if lane.delay:
                await asyncio.sleep(lane.delay)
            sink.write(data)
            await sink.drain()
        await lane.passing.wait()
        if not lane.dropping:
            (sink.write_eof if sink.can_write_eof() else sink.close)()  # TLS has only an end

    def end(self, *, reset: bool) -> None:
        """Close at both ends: by RST or by FIN."""
        for _, writer in (self._client, self._server):
            sock = writer.get_extra_info("socket")
            if reset and sock is not None and not writer.is_closing():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
            writer.close()

    def half_close(self, way: Way) -> None:
        """Send FIN in one direction."""
        (self._server if way is Way.TO_SERVER else self._client)[1].write_eof()


class Proxy:
    """Listens on a port of this machine: `with Proxy("postgresql://…") as proxy: use(proxy.url)`.

    A fault that is set for all connections also applies to later ones, until `heal`.
    """

    def __init__(self, url: str) -> None:
        """`url`: the server; PostgreSQL's may name a directory of sockets by `?host=`."""
        self._given = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._links: list[Link] = []
        self._modes: dict[Way, tuple[bool, bool, float]] = dict.fromkeys(BOTH, (True, False, 0.0))
        self.refusing = False
        """Whether new connections are reset at once."""
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self._within(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._within(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        """The server's URL, by way of the proxy."""
        given = self._given
        credentials, at, _ = given.netloc.rpartition("@")
        query = "&".join(
            f"{key}={quote(value)}"
            for key, values in parse_qs(given.query).items()
            if key not in ("host", "port")
            for value in values
        )
        return given._replace(
            netloc=f"{credentials}{at}127.0.0.1:{self.port}", query=query
        ).geturl()

    @property
    def count(self) -> int:
        """How many connections there are."""
        return self._within(self._look(lambda: len(self._links)))

    # -- faults ------------------------------------------------------------------------------------

    def cut(self) -> None:
        """End all connections by RST; new ones are accepted."""
        self._each(lambda link: link.end(reset=True))

    def close(self) -> None:
        """End all connections by FIN; new ones are accepted."""
        self._each(lambda link: link.end(reset=False))

    def half_close(self, way: Way) -> None:
        """Send FIN in one direction on all connections."""
        self._each(lambda link: link.half_close(way))

    def freeze(self, ways: Iterable[Way] = BOTH, *, only_present: bool = False) -> None:
        """Hold all bytes back. New connections are accepted and get no answer, unless only the
        existing ones freeze."""
        self._set(ways, (False, False, 0.0), only_present)

    def drop(self, ways: Iterable[Way] = BOTH, *, only_present: bool = False) -> None:
        """Accept all bytes and discard them."""
        self._set(ways, (True, True, 0.0), only_present)

    def delay(self, seconds: float, ways: Iterable[Way] = BOTH) -> None:
        """Pass on each piece with this delay."""
        self._set(ways, (True, False, seconds), only_present=False)

    def heal(self) -> None:
        """Pass on what was held back, and everything from now on."""
        self.refusing = False
        self._set(BOTH, (True, False, 0.0), only_present=False)

    # -- within the loop ---------------------------------------------------------------------------

    def _within(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(20)

    async def _look(self, what: Callable[[], T]) -> T:
        return what()

    def _each(self, act: Callable[[Link], None]) -> None:
        def all_of_them() -> None:
            for link in list(self._links):
                act(link)

        self._within(self._look(all_of_them))

    def _set(self, ways: Iterable[Way], mode: tuple[bool, bool, float], only_present: bool) -> None:
        def change() -> None:
            for way in ways:
                if not only_present:
                    self._modes[way] = mode
                for link in self._links:
                    _put(link.lanes[way], mode)

        self._within(self._look(change))

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=512)
        return int(self._server.sockets[0].getsockname()[1])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link((reader, writer))
        if self.refusing:
            link.end(reset=True)
            return
        for way, mode in self._modes.items():
            _put(link.lanes[way], mode)
        self._links.append(link)
        try:
            with suppress(asyncio.CancelledError):  # the proxy is stopped
                await link.run(self._connect)
        finally:
            self._links.remove(link)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        query = parse_qs(self._given.query)
        port = self._given.port or int(query.get("port", ["5432"])[0])
        host = query.get("host", [self._given.hostname or "127.0.0.1"])[0]
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}  # of connections, also half open
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def _put(lane: _Lane, mode: tuple[bool, bool, float]) -> None:
    passing, lane.dropping, lane.delay = mode
    if passing:
        lane.passing.set()
    else:
        lane.passing.clear()
