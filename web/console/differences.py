"""What changed between two moments, and by which events."""

from typing import Any, Literal, NamedTuple

import msgspec
from starlette.responses import Response

from web.api_client import Problem
from web.console.answers import Event, Stop
from web.console.entering import console_router
from web.console.moments import in_utc
from web.forms import Form, number
from web.visit import Visit

router = console_router()

MOMENTS = ("from", "to")
KINDS = (("order", "An order"), ("wallet", "A wallet"), ("game", "A game"), ("user", "An account"))

SHOWN = 30
"""How many rows a page has."""


class FieldChange(msgspec.Struct, frozen=True):
    """A field, from what to what, and the positions of the events that changed it."""

    field: str
    before: Any
    after: Any
    positions: list[int]


class RowChange(msgspec.Struct, frozen=True):
    """A row of a read model that changed; the parts of its key are joined by "/"."""

    model: str
    key: str
    what: Literal["added", "changed", "removed"]
    fields: list[FieldChange]


class Difference(msgspec.Struct, frozen=True):
    """What changed after the position `first`, up to `last`; `left_out` counts further rows."""

    first: int
    last: int
    rows: list[RowChange]
    events: list[Event]
    left_out: int
    stopped_by: list[Stop]


class Part(NamedTuple):
    """The rows of a difference that a page shows, beginning with the `first`th (from 0), the events
    that changed them, and the cursor of those that follow, if any."""

    first: int
    rows: list[RowChange]
    events: list[Event]
    next_cursor: str | None


@router.get("/console/differences")
async def show_differences(visit: Visit) -> Response:
    """What changed after one moment, up to another: in the whole shop, or in one thing."""
    asked = {name: visit.query(name) for name in (*MOMENTS, "about", "id")}
    visit.form = form = Form(asked)
    found = None
    if asked["from"] or asked["to"]:
        _require(form)
        if not form.errors:
            found = await _difference(visit)
    return visit.page(
        "console/differences.html",
        status=422 if form.is_refused else 200,
        kinds=KINDS,
        found=found,
        part=found and _part(found, number(visit.query("cursor")) or 0),
    )


def _part(found: Difference, first: int) -> Part:
    if first >= len(found.rows):  # a typed cursor
        first = 0
    end = first + SHOWN
    rows = found.rows[first:end]
    used = {position for row in rows for field in row.fields for position in field.positions}
    events = [each for each in found.events if each.position in used]
    return Part(first, rows, events, str(end) if end < len(found.rows) else None)


def _require(form: Form) -> None:
    for name in MOMENTS:
        if not form.text(name):
            form.errors[name] = "Say which moment: a position of the log, or a time."
    if form.text("about") and not form.text("id"):
        form.errors["id"] = "Say which one, by its id."


async def _difference(visit: Visit) -> Difference | None:
    form = visit.form
    moments = {name: in_utc(form.text(name)) for name in MOMENTS}
    about = form.text("about")
    one = {about: form.text("id")} if about in dict(KINDS) else {}
    try:
        return await visit.api.get("/api/v1/audit/diff", Difference, **moments, **one)
    except Problem as problem:
        _refuse(form, problem, about)
        return None


def _refuse(form: Form, problem: Problem, about: str) -> None:
    """Show a refusal beside what it is about."""
    if problem.code == "row_not_found":
        form.errors["id"] = "There was none with this id by then."
        return
    form.refuse(problem, {about: "id"})
