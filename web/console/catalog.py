"""The catalog of events: what each means, who decides it, and what follows from it."""

from typing import Any

import msgspec
from starlette.responses import Response

from web.api_client import Listed
from web.console.entering import console_router
from web.visit import Visit

router = console_router()


class EventType(msgspec.Struct, frozen=True):
    event: str
    kind: str
    version: int
    earlier: list[str]
    fields: dict[str, dict[str, Any]]
    meaning: str
    declared_in: str
    decided_by: list[str]
    folded_by: list[str]
    reactors: list[str]


@router.get("/console/catalog")
async def show_catalog(visit: Visit) -> Response:
    """All events; `q` finds some by name or meaning."""
    found = await visit.api.get("/api/v1/audit/catalog", Listed[EventType])
    sought = visit.query("q")
    events = [
        each for each in found.items if sought.lower() in f"{each.event} {each.meaning}".lower()
    ]
    return visit.page("console/catalog.html", events=events, total=len(found.items), sought=sought)
