"""The log: looking through it, following it, and one event with its causes and effects."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from web import values
from web.api_client import Problem
from web.console.acting import may_act
from web.console.answers import Batch, Disclosed, Event, EventDetails, Flow, LogPage
from web.console.entering import console_router
from web.console.moments import in_utc
from web.console.trees import siblings_of, tree_of
from web.forms import Form, number
from web.live import event, messages, streamed
from web.visit import Visit

router = console_router()

PER_PAGE = 50
MAX_LIVE = 100
"""How many of the events that were appended meanwhile are shown."""

MAX_SIBLINGS = 50
"""How many trees of the same request are shown beside an event's own."""

FILTERS = ("name", "stream_id", "actor", "correlation_id", "text")
TIMES = ("since", "until")


@router.get("/console/log")
async def show_log(visit: Visit) -> Response:
    """Events, newest first."""
    asked = {name: visit.query(name) for name in (*FILTERS, *TIMES)}
    given = {name: in_utc(text) if name in TIMES else text for name, text in asked.items() if text}
    cursor = visit.query("cursor")
    try:
        found = await visit.api.get(
            "/api/v1/audit/log", LogPage, limit=PER_PAGE, cursor=cursor or None, **given
        )
    except Problem as problem:
        visit.form = Form(asked)
        visit.form.refuse(problem)
        found = LogPage([])
    is_live = visit.query("live") == "1" and not cursor and not visit.form.is_refused
    return visit.page(
        "console/log.html",
        status=422 if visit.form.is_refused else 200,
        asked=asked,
        found=found,
        live_url=_live_url(given, found) if is_live else "",
    )


def _live_url(given: dict[str, str], found: LogPage) -> str:
    after = {"after": found.searched_upto}
    return f"/console/log/live?{urlencode({**given, **after})}"


@router.get("/console/log/live")
async def follow_log(visit: Visit) -> Response:
    """The latest of the events that were appended after a position, again whenever there are more,
    as server-sent events."""
    hello: dict[str, object] = {name: visit.query(name) for name in FILTERS if visit.query(name)}
    if (after := number(visit.query("after"))) is not None:
        hello["after_position"] = after
    return streamed(_appended(visit, hello))


async def _appended(visit: Visit, hello: dict[str, object]) -> AsyncIterator[str]:
    latest: deque[Event] = deque(maxlen=MAX_LIVE)
    async with aclosing(messages(visit, "/api/v1/ws/log", hello)) as found:
        async for text in found:
            batch = msgspec.json.decode(text, type=Batch)
            if batch.left_out:
                latest.clear()
            latest.extendleft(batch.items)
            context = {"events": latest, "left_out": batch.left_out}
            rows = visit.site.renderer.block("console/log.html", "appended", context)
            yield event("events", rows)


# -- one event -------------------------------------------------------------------------------------


@router.get("/console/events/{position}")
async def show_event(visit: Visit) -> Response:
    """An event, in the tree of its causes and effects."""
    return await _event_page(visit, {})


@router.post("/console/events/{position}")
async def disclose(visit: Visit) -> Response:
    """Show the personal fields of an event. That somebody looked is recorded first."""
    position = visit.part("position")
    try:
        found = await visit.api.post(
            f"/api/v1/audit/log/{position}/disclose",
            visit.form.body("reason"),
            Disclosed,
            once=visit.form.secret("once"),
        )
    except Problem as problem:
        visit.form.refuse(problem)
        return await _event_page(visit, {}, status=422)
    return await _event_page(visit, found.fields)


async def _event_page(visit: Visit, opened: dict[str, object], status: int = 200) -> Response:
    position = visit.part("position")
    found = await visit.api.get(f"/api/v1/audit/log/{position}", EventDetails)
    flow = await visit.api.get(f"/api/v1/ops/trace/{position}", Flow)
    tree = tree_of(flow.events, found)
    siblings = siblings_of(flow.events, found, tree)
    return visit.page(
        "console/event.html",
        status=status,
        found=found,
        lines=values.lines({**found.payload, **opened}),
        opened=opened,
        may_act=may_act(visit),
        tree=tree,
        siblings=siblings[:MAX_SIBLINGS],
        further_siblings=max(0, len(siblings) - MAX_SIBLINGS),
        flow=flow,
        kinds={each.stream_id: each.kind for each in flow.streams},
    )
