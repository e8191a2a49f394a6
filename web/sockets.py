"""A WebSocket of the API, opened in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.types import ASGIApp, Message, Scope

ABNORMAL_CLOSURE, SERVICE_RESTART = 1006, 1012
"""Close codes: of RFC 6455, and of IANA's registry, where another process is there, or soon will
be."""


class SocketClosed(Exception):
    """The API has closed the WebSocket, with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Socket:
    """The client's end of a WebSocket. Nothing gathers here for a client that reads slowly: the API
    waits, and loses its patience."""

    def __init__(self) -> None:
        self.to_api: asyncio.Queue[Message] = asyncio.Queue()
        self.from_api: asyncio.Queue[Message] = asyncio.Queue(maxsize=1)

    async def send(self, text: str) -> None:
        """Send a message."""
        await self.to_api.put({"type": "websocket.receive", "text": text})

    async def receive(self) -> str:
        """The next message. Raises SocketClosed."""
        while True:
            message = await self.from_api.get()
            if message["type"] == "websocket.send":
                return str(message["text"])
            if message["type"] == "websocket.close":
                raise SocketClosed(message.get("code", 1000), message.get("reason") or "")

    def close(self, code: int) -> None:
        """Close it at once, without what was not received yet."""
        while not self.from_api.empty():
            self.from_api.get_nowait()
        self.from_api.put_nowait({"type": "websocket.close", "code": code})


class Sockets:
    """Opens WebSockets of one application, and knows those that are open."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: set[Socket] = set()

    @asynccontextmanager
    async def open(self, scope: Scope) -> AsyncIterator[Socket]:
        """A WebSocket, which is closed after the block."""
        socket = Socket()
        await socket.to_api.put({"type": "websocket.connect"})

        async def run() -> None:
            with suppress(Exception):  # which the API has logged
                await self._app(scope, socket.to_api.get, socket.from_api.put)
            await socket.from_api.put({"type": "websocket.close", "code": ABNORMAL_CLOSURE})

        scope["subprotocols"] = []
        task = asyncio.create_task(run(), name=f"socket {scope['path']}")
        self._open.add(socket)
        try:
            yield socket
        finally:
            self._open.discard(socket)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def close(self) -> None:
        """Close all that are open: the process stops."""
        for socket in self._open:
            socket.close(SERVICE_RESTART)
