"""Parts of pages that move: what the API's sockets say, as server-sent events."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

import msgspec
from starlette.responses import Response, StreamingResponse

from web.sockets import SocketClosed
from web.visit import Visit

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class _Message(msgspec.Struct, frozen=True):
    type: str = ""


async def messages(
    visit: Visit, path: str, hello: Mapping[str, object]
) -> AsyncGenerator[str, None]:
    """The messages of a socket of the API, until it closes: then the browser connects again."""
    scope = visit.api.scope_of("websocket", path)
    async with visit.site.sockets.open(scope) as socket:
        await socket.send(json.dumps({"token": visit.api.token, **hello}))
        try:
            while True:
                text = await socket.receive()
                if msgspec.json.decode(text, type=_Message).type == "error":
                    return
                yield text
        except SocketClosed:
            return


def event(name: str, html: str, id: int | None = None) -> str:
    """A server-sent event. A browser that was cut off names the last `id` when it comes again."""
    lines = "".join(f"data: {line}\n" for line in html.splitlines()) or "data:\n"
    head = "" if id is None else f"id: {id}\n"
    return f"{head}event: {name}\n{lines}\n"


def streamed(events: AsyncIterator[str]) -> Response:
    """An answer that goes on as long as there are events."""
    return StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)
