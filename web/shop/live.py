"""Parts of pages that are sent anew as things change, as server-sent events."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from starlette.responses import Response, StreamingResponse

from web.api_client import Problem
from web.forms import number
from web.sockets import SocketClosed
from web.visit import Visit


class Change(msgspec.Struct, frozen=True):
    """A message of the API's live socket."""

    type: str
    position: int | None = None
    order_id: str | None = None


Shown = Callable[[], Awaitable[tuple[str, bool]]]
"""Returns a part of a page as it is now, and whether it will not change any more."""


def follow(visit: Visit, name: str, shown: Shown, concerns: Callable[[Change], bool]) -> Response:
    """The part after each change that concerns it, as events of this name, beginning with the part
    as it is now. Their ids are positions of the log, after which a browser that was cut off goes
    on."""
    after = number(visit.request.headers.get("last-event-id", ""))
    events = _events(visit, name, shown, concerns, after)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def _events(
    visit: Visit,
    name: str,
    shown: Shown,
    concerns: Callable[[Change], bool],
    after: int | None,
) -> AsyncIterator[str]:
    """Ends once nothing more happens, or when the API closes its socket: then the browser connects
    again."""
    hello: dict[str, object] = {"token": visit.api.token}
    if after is not None:
        hello["after_position"] = after
    async with visit.site.sockets.open(
        visit.api.scope_of("websocket", "/api/v1/ws/orders")
    ) as socket:
        await socket.send(json.dumps(hello))
        try:
            while True:
                change = msgspec.json.decode(await socket.receive(), type=Change)
                if change.type == "ready" or concerns(change):
                    visit.api.at_least = change.position  # what is read may lag behind the log
                    block, is_final = await shown()
                    yield _event(name, block, change.position)
                    if is_final:
                        yield "event: end\ndata:\n\n"
                        return
        except (SocketClosed, Problem):
            return


def _event(name: str, block: str, position: int | None) -> str:
    lines = "".join(f"data: {line}\n" for line in block.splitlines())
    return f"id: {position or ''}\nevent: {name}\n{lines}\n"
