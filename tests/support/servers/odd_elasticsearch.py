"""A server in front of the real Elasticsearch: it passes requests on, unless it is set to answer
oddly by itself.

Odd answers come from this double (a small HTTP server of ours), all others from the real server.
"""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import ClientSession, web

Odd = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""An answer made by the double."""

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}
"""The client requires this header until it has seen it once; without it, it takes the server for a
different product."""


KEPT = ("Content-Type", "X-Elastic-Product")
"""Headers of the real server's answers that are passed on."""


def says(status: int, body: Any = "", kind: str = "application/json", **headers: str) -> Odd:
    """An answer of this status and body; a body that is no text is sent as JSON. Underscores in
    header names become hyphens."""
    text = body if isinstance(body, str) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text, content_type=kind, headers=PRODUCT | named)

    return answer


def refuses(status: int, kind: str, reason: str = "of the double") -> Odd:
    """An error in Elasticsearch's format."""
    error = {"type": kind, "reason": reason}
    return says(status, {"error": {**error, "root_cause": [error]}, "status": status})


async def hangs(request: web.Request) -> web.Response:
    """No answer, until the client disconnects."""
    await _until_gone(request)
    return web.Response()


async def dribbles(request: web.Request) -> web.StreamResponse:
    """A body that arrives byte by byte and never ends: no single byte is late."""
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Content-Length": "1000000", **PRODUCT}
    )
    await response.prepare(request)
    while not _is_gone(request):
        await response.write(b" ")
        await asyncio.sleep(0.05)
    return response


async def breaks_off(request: web.Request) -> web.StreamResponse:
    """Half of a body; then the connection ends."""
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Content-Length": "100", **PRODUCT}
    )
    await response.prepare(request)
    await response.write(b'{"hits": {"hits": [')
    assert request.transport is not None
    request.transport.close()
    return response


async def hangs_up(request: web.Request) -> web.Response:
    """No answer: the connection is closed."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def never_ends(request: web.Request) -> web.StreamResponse:
    """An endless body, sent as fast as the client reads."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", **PRODUCT})
    await response.prepare(request)
    while not _is_gone(request):
        await response.write(b" " * 2**20)
    return response


class OddElasticsearch:
    """A server in a thread of its own. `odd` counts the answers made by the double."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._answer: Odd | None = None
        self._of: Callable[[web.Request], bool] = lambda _: True
        self.odd = 0
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: self._loop.run_until_complete(self._serve(ready))
        )
        self._thread.start()
        ready.wait()

    def answers(self, answer: Odd, of: Callable[[web.Request], bool] = lambda _: True) -> None:
        """From now on give this answer to all requests, or to those that `of` picks."""
        self._of = of
        self._answer = answer
        self.odd = 0

    def passes_on(self) -> None:
        """From now on pass requests on."""
        self._answer = None

    def passes_on_but_keeps_answers(self, after: int) -> None:
        """Pass all requests on, but after this many, hang up instead of returning the answer."""

        async def keep(request: web.Request) -> web.Response:
            passed = await self._pass_on(request)
            return passed if self.odd <= after else await hangs_up(request)

        self.answers(keep)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self, ready: threading.Event) -> None:
        async with ClientSession(skip_auto_headers=["Accept-Encoding"]) as self._client:
            app = web.Application(client_max_size=2**30)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        answer = self._answer
        if answer is not None and self._of(request):
            self.odd += 1
            return await answer(request)
        return await self._pass_on(request)

    async def _pass_on(self, request: web.Request) -> web.Response:
        headers = {
            name: request.headers[name]
            for name in ("Accept", "Content-Type")
            if name in request.headers
        }
        url = self._upstream + request.raw_path
        async with self._client.request(
            request.method, url, data=await request.read(), headers=headers
        ) as answer:
            kept = {name: answer.headers[name] for name in KEPT if name in answer.headers}
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)


def _is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


async def _until_gone(request: web.Request) -> None:
    while not _is_gone(request):  # noqa: ASYNC110 it is the client's doing
        await asyncio.sleep(0.02)
