"""Finds the page of any id or position."""

from starlette.responses import Response

from web.api_client import Problem
from web.console.answers import Flow
from web.console.entering import console_router
from web.values import as_id
from web.visit import Visit, path_part

router = console_router()


@router.get("/console/find")
async def find(visit: Visit) -> Response:
    """Redirect to the page of whatever has this id: an order, another stream, an event, a request,
    a trace."""
    asked = visit.query("id")
    if not asked:
        return visit.go("/console/log")
    if asked.isdecimal():
        return visit.go(f"/console/events/{int(asked[:19])}")
    try:
        flow = await visit.api.get(f"/api/v1/ops/trace/{path_part(asked)}", Flow)
    except Problem as problem:
        if problem.status not in {404, 422}:
            raise
        return visit.page("console/nothing.html", status=404, asked=asked)
    return visit.go(_page_of(as_id(asked) or asked, flow))


def _page_of(asked: str, flow: Flow) -> str:
    if flow.kind == "stream":
        kinds = {each.stream_id: each.kind for each in flow.streams}
        if kinds.get(asked) == "order":
            return f"/console/orders/{asked}"
        return f"/console/streams/{asked}"
    if flow.kind == "event":
        positions = {each.event_id: each.position for each in flow.events}
        return f"/console/events/{positions[asked]}"
    if flow.kind == "request":
        return f"/console/log?correlation_id={asked}"
    return f"/console/events/{flow.events[0].position}"
