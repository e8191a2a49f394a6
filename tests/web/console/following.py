"""A browser's connection to a stream of server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.types import Message

from tests.web.browser import Browser
from web.app import FrontDoor

PATIENCE = 60


class Stream:
    """What has come so far."""

    def __init__(self) -> None:
        self.chunks: asyncio.Queue[str | None] = asyncio.Queue()
        self.content_type = ""

    async def until(self, wanted: str) -> str:
        """The next event that contains a text."""
        async with asyncio.timeout(PATIENCE):
            while True:
                chunk = await self.chunks.get()
                assert chunk is not None, "the stream has ended"
                if wanted in chunk:
                    return chunk

    async def ended(self) -> None:
        """Wait for the end of the stream."""
        async with asyncio.timeout(PATIENCE):
            while await self.chunks.get() is not None:
                pass


@asynccontextmanager
async def following(
    site: FrontDoor, browser: Browser, path: str, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Stream]:
    """A stream, which the browser leaves after the block."""
    request = browser.client.build_request("GET", path, headers=headers)
    stream, leaves = Stream(), asyncio.Event()
    asked = False

    async def receive() -> Message:
        nonlocal asked
        if asked:
            await leaves.wait()
            return {"type": "http.disconnect"}
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            stream.content_type = dict(message["headers"])[b"content-type"].decode()
        elif message.get("body"):
            await stream.chunks.put(message["body"].decode())

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": request.url.path,
        "raw_path": request.url.raw_path,
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": ("shop", 80),
        "client": ("127.0.0.1", 1234),
    }

    async def run() -> None:
        try:
            await site(scope, receive, send)
        finally:
            await stream.chunks.put(None)

    task = asyncio.create_task(run())
    try:
        yield stream
    finally:
        leaves.set()
        await asyncio.wait_for(task, PATIENCE)
