"""Parts of the shop's pages that are sent again when an order or a cart changes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import msgspec
from starlette.responses import Response

from web.api_client import Problem
from web.forms import number
from web.live import event, messages, streamed
from web.visit import Visit


class Change(msgspec.Struct, frozen=True):
    """A message of the API's live socket."""

    type: str
    position: int | None = None
    order_id: str | None = None


Shown = Callable[[], Awaitable[tuple[str, bool]]]
"""Returns a part of a page as it is now, and whether it will not change any more."""


def follow(visit: Visit, name: str, shown: Shown, concerns: Callable[[Change], bool]) -> Response:
    """Send a part as it is now, and again after each change that concerns it, as events of this
    name. Their ids are positions of the log, from which a browser that was cut off goes on."""
    after = number(visit.request.headers.get("last-event-id", ""))
    return streamed(_events(visit, name, shown, concerns, after))


async def _events(
    visit: Visit,
    name: str,
    shown: Shown,
    concerns: Callable[[Change], bool],
    after: int | None,
) -> AsyncIterator[str]:
    """Ends once nothing more happens, or when the part cannot be shown: then the browser connects
    again."""
    hello = {} if after is None else {"after_position": after}
    async with aclosing(messages(visit, "/api/v1/ws/orders", hello)) as changes:
        async for text in changes:
            change = msgspec.json.decode(text, type=Change)
            if change.type != "ready" and not concerns(change):
                continue
            visit.api.at_least = change.position  # what is read may lag behind the log
            try:
                block, is_final = await shown()
            except Problem:
                return
            yield event(name, block, change.position)
            if is_final:
                yield event("end", "")
                return
