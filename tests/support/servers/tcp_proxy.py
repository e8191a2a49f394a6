"""A TCP proxy that cuts a connection like a pulled cable, without a goodbye from either side, or
holds it up like a server that hangs."""

import asyncio
import contextlib
import ssl


class Wire:
    """Listens on a port, by TLS if it has a context for that, and forwards to `host:port`."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._target = (host, port)
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = 0

    async def __aenter__(self) -> "Wire":
        self._server = await asyncio.start_server(
            self._forward, "127.0.0.1", self.port, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Break every connection; new ones are accepted."""
        for writer in self._writers:
            writer.transport.abort()

    def hold(self) -> None:
        """Keep every connection, and pass nothing on."""
        self._flowing.clear()

    def let_go(self) -> None:
        """Pass on everything, including what was held up."""
        self._flowing.set()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection(*self._target)
            pair = {writer, there_writer}
            self._writers |= pair
            try:
                await asyncio.gather(
                    self._pump(reader, there_writer), self._pump(there_reader, writer)
                )
            finally:
                self._writers -= pair
                for end in pair:
                    end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError
