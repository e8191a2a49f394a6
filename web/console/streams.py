"""A stream's life: its versions, and the state at each."""

from starlette.responses import Response

from web import values
from web.api_client import Listed, Problem
from web.console.answers import Event, LogPage, State
from web.console.entering import console_router
from web.console.figures import figures_of_stream
from web.forms import number
from web.visit import Visit, id_of

router = console_router()

NEAR = 12
"""How many events before a version are listed, and after it."""


@router.get("/console/streams")
async def find_stream(visit: Visit) -> Response:
    """The form that leads to a stream."""
    if stream_id := visit.query("id"):
        return visit.go(f"/console/streams/{id_of(stream_id)}")
    return visit.page("console/streams.html")


@router.get("/console/streams/{stream_id}")
async def show_stream(visit: Visit) -> Response:
    """A stream at one of its versions, by default the latest, and what its last event changed."""
    stream_id = visit.id("stream_id")
    latest = await visit.api.get("/api/v1/audit/log", LogPage, stream_id=stream_id, limit=1)
    if not latest.items:
        raise Problem("stream_not_found", 404)
    last = latest.items[0].version
    version = _version(visit.query("version"), last)
    path = f"/api/v1/audit/streams/{stream_id}"
    first = max(0, version - NEAR - 1)
    events = await visit.api.get(path, Listed[Event], cursor=first or None, limit=2 * NEAR + 1)
    by_version = {each.version: each for each in events.items}
    chosen = by_version[version]
    after = await _state(visit, path, chosen)
    before = await _state(visit, path, by_version[version - 1]) if version > 1 else None
    return visit.page(
        "console/stream.html",
        fragment="life",
        stream_id=stream_id,
        kind=after.kind,
        figures=await figures_of_stream(visit, after.kind, stream_id, chosen.position),
        chosen=chosen,
        last=last,
        events=events.items,
        stop=after.stopped_by,
        lines=values.lines(chosen.payload),
        differences=values.compared(before and before.state, after.state),
    )


def _version(text: str, last: int) -> int:
    """The version that is asked for, within those that there are."""
    version = number(text)
    return last if version is None else min(max(version, 1), last)


async def _state(visit: Visit, path: str, event: Event) -> State:
    """The state after an event."""
    return await visit.api.get(f"{path}/state", State, as_of=event.position)
