"""The console's first page: how the shop is right now."""

from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing

import msgspec
from markupsafe import Markup
from starlette.responses import Response

from web.charts import spark
from web.console.answers import Overview
from web.console.entering import console_router
from web.live import event, messages, streamed
from web.visit import Visit

router = console_router()

KEPT = 120
"""How many of the latest overviews a stream keeps for its small charts."""


@router.get("/console")
async def show_overview(visit: Visit) -> Response:
    """How the shop is right now; it moves while it is looked at."""
    now = await visit.api.get("/api/v1/ops/overview", Overview)
    return visit.page("console/overview.html", fragment="figures", now=now, sparks=_sparks([now]))


@router.get("/console/live")
async def follow_overview(visit: Visit) -> Response:
    """The overview's figures, as server-sent events."""
    return streamed(_overviews(visit))


async def _overviews(visit: Visit) -> AsyncIterator[str]:
    seen: deque[Overview] = deque(maxlen=KEPT)
    async with aclosing(messages(visit, "/api/v1/ws/overview", {})) as found:
        async for text in found:
            now = msgspec.json.decode(text, type=Overview)
            seen.append(now)
            context = {"visit": visit, "now": now, "sparks": _sparks(seen)}
            yield event(
                "figures", visit.site.renderer.block("console/overview.html", "figures", context)
            )


def _sparks(seen: Iterable[Overview]) -> dict[str, Markup]:
    """The sparklines, by what they show."""
    known = list(seen)
    return {
        "requests": spark([each.requests_per_second or 0.0 for each in known]),
        "events": spark([each.events_per_second or 0.0 for each in known]),
        "lag": spark([float(each.lag) for each in known]),
        "jobs": spark([float(each.jobs) for each in known]),
    }
