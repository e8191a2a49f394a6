"""A WebSocket of the API, opened in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Scope

SERVICE_RESTART = 1012
"""The close code of IANA's registry: another process is there, or soon will be."""


class SocketClosed(Exception):
    """The API has closed the WebSocket, with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class Socket:
    """The client's end of a WebSocket."""

    def __init__(self) -> None:
        self.to_api: asyncio.Queue[Message] = asyncio.Queue()
        self.from_api: asyncio.Queue[Message] = asyncio.Queue()

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
            try:
                await self._app(scope, socket.to_api.get, socket.from_api.put)
            finally:
                await socket.from_api.put({"type": "websocket.close", "code": 1006})

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
            socket.from_api.put_nowait({"type": "websocket.close", "code": SERVICE_RESTART})
