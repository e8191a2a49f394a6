"""A WebSocket of the API, opened in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Scope


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


@asynccontextmanager
async def open_socket(app: ASGIApp, scope: Scope) -> AsyncIterator[Socket]:
    """A WebSocket of the application; it is closed after the block."""
    socket = Socket()
    await socket.to_api.put({"type": "websocket.connect"})

    async def run() -> None:
        try:
            await app(scope, socket.to_api.get, socket.from_api.put)
        finally:
            await socket.from_api.put({"type": "websocket.close", "code": 1006})

    scope["subprotocols"] = []
    task = asyncio.create_task(run(), name=f"socket {scope['path']}")
    try:
        yield socket
    finally:
        await socket.to_api.put({"type": "websocket.disconnect", "code": 1001})
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
