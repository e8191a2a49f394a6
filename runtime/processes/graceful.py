"""Servers that answer what clients have sent when they stop: in plain HTTP, and in TLS."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn

from runtime.processes.connections import BoundedHttp, Limits

logger = logging.getLogger(__name__)

LAST_HANDSHAKES_SECONDS = 2.0
"""How long a stopping server waits for handshakes that have begun."""

SHUTDOWN_SECONDS = 1.0
"""How long a client may take to confirm the end of a TLS connection."""

PAUSE_SECONDS = 1.0
"""How long no connection is accepted when there is no file descriptor for one."""

_HANDSHAKE = b"\x16"
"""The first byte of TLS (RFC 8446, 5.1), with which no HTTP begins."""

_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class GracefulServer(uvicorn.Server):
    """Answers what clients have sent when it stops. Leaves signals to `run_until_stopped`: with two
    handlers for one signal, which one ends the process is a race."""

    def __init__(self, config: uvicorn.Config, listening: asyncio.Event | None = None) -> None:
        """`listening` is set once it listens."""
        super().__init__(config)
        self._listening = listening
        self.end_waits: Callable[[], None] = lambda: None
        """Called when it stops: requests wait no longer, and are answered."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self._listening is not None:
            self._listening.set()
        logger.info("listening on port %s of %s", self.config.port, self.config.host)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop. Connections that clients have made, and that wait to be accepted, are answered too:
        closing the socket would reset them."""
        for each in sockets or []:
            with suppress(OSError):  # there are no more, or no file descriptors for them
                for _ in range(self.config.backlog):
                    await self._accept(each.accept()[0])
        self.end_waits()
        await super().shutdown(sockets)

    async def _accept(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


class TlsServer(GracefulServer):
    """As `GracefulServer`, over TLS. A client that speaks plain HTTP gets 400 `https_required`.

    It accepts connections itself, to look at their first byte, and to bound the handshakes, in
    number and in time, as uvicorn does not.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        context: ssl.SSLContext,
        limits: Limits,
        listening: asyncio.Event | None = None,
    ) -> None:
        super().__init__(config, listening)
        self._context = context
        self._limits = limits
        self._greetings: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        for each in sockets or []:
            each.listen(self.config.backlog)
        await super().startup([])
        for each in sockets or []:
            self._watch(each)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, once the handshakes that have begun are done."""
        loop = asyncio.get_running_loop()
        for each in sockets or []:
            self._accept_from(each)
            loop.remove_reader(each)
            each.close()
        if self._greetings:
            await asyncio.wait(self._greetings, timeout=LAST_HANDSHAKES_SECONDS)
        for task in self._greetings:
            task.cancel()
        await super().shutdown(sockets)

    def _watch(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listening, self._accept_from, listening)

    def _accept_from(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            for _ in range(self.config.backlog):
                self._begin(listening.accept()[0])
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            if error.errno not in _NO_DESCRIPTORS:
                raise
            logger.error("cannot accept connections: %s", error)
            loop.remove_reader(listening)
            loop.call_later(PAUSE_SECONDS, self._watch, listening)

    def _begin(self, connection: socket.socket) -> None:
        if len(self._greetings) >= self._limits.connections:
            connection.close()
            return
        connection.setblocking(False)
        task = asyncio.create_task(self._greet(connection), name="TLS handshake")
        self._greetings.add(task)
        task.add_done_callback(self._greetings.discard)

    async def _greet(self, connection: socket.socket) -> None:
        """Begin TLS with a client, or refuse it."""
        seconds = self._limits.head_seconds
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                first = await _first_byte(connection)
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError):  # a TimeoutError is one
                return
            raise
        if first == _HANDSHAKE:
            with suppress(OSError):  # an SSLError is one: the client knows better what is wrong
                await loop.connect_accepted_socket(
                    self._protocol,
                    connection,
                    ssl=self._context,
                    ssl_handshake_timeout=seconds,
                    ssl_shutdown_timeout=SHUTDOWN_SECONDS,
                )
        else:
            _, protocol = await loop.connect_accepted_socket(self._protocol, connection)
            assert isinstance(protocol, BoundedHttp)
            protocol.refuse_plain_http()


async def _first_byte(connection: socket.socket) -> bytes:
    """The first byte that a client sends, which stays to be read; empty at the end."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)
