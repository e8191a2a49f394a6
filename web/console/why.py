"""Why a figure is what it is: the events that made it, how each moved it, and what caused each."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from web.api_client import Listed, Problem
from web.console.answers import Event, ReadModel, Stop
from web.console.entering import console_router
from web.console.moments import Moment, moment_of
from web.forms import Form
from web.visit import Visit
from web.words import as_sentence

router = console_router()

MAX_READINGS = 8
"""How many dots of ID.FIELD are tried as the one between both."""


class Move(msgspec.Struct, frozen=True):
    """An event that changed the figure; its direct cause first, the request's own event last."""

    event: Event
    before: Any
    after: Any
    causes: list[Event]
    amended_at: int | None

    @property
    def difference(self) -> int | None:
        """By how much a whole number changed, from 0 if there was none; None for other values."""
        before, after = (0 if value is None else value for value in (self.before, self.after))
        numbers = type(before) is int and type(after) is int
        return after - before if numbers else None

    @property
    def origin(self) -> Event:
        """The event of the request that led to it."""
        return self.causes[-1] if self.causes else self.event


class Why(msgspec.Struct, frozen=True):
    """A figure as of a position, and what made it. `left_out` counts earlier changes."""

    model: str
    key: str
    field: str
    position: int
    exists: bool
    value: Any
    steps: list[Move]
    left_out: int
    stopped_by: list[Stop]


@router.get("/console/why")
async def show_why(visit: Visit) -> Response:
    """What made a figure: `of` is ID.FIELD, else `id` and `field` are. Without a field, or with one
    that is not there, the fields of the rows with this id."""
    asked = {name: visit.query(name) for name in ("id", "field", "model")}
    asked["id"] = asked["id"] or visit.query("of").partition(".")[0]
    moment = moment_of(visit)
    found: Why | None = None
    readings = list(_readings(visit.query("of"), asked))
    if readings:
        asked["id"], asked["field"] = readings[0]
        try:
            found = await _first_answer(visit, readings, asked["model"], moment.as_of)
            asked["id"], asked["field"] = found.key, found.field
        except Problem as problem:
            visit.form = Form(asked)
            _refuse(visit, moment, problem)
    rows = [] if moment.error else await _rows(visit, asked["id"], found)
    return visit.page(
        "console/why.html",
        status=422 if visit.form.is_refused else moment.status,
        asked=asked,
        moment=moment,
        found=found,
        currency=await _currency(visit, found, rows) if found else "",
        rows=rows,
    )


def _readings(figure: str, asked: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The ways to read a text as id and field, as an id may have dots, too."""
    if asked["id"] and asked["field"]:
        yield asked["id"], asked["field"]
        return
    parts = figure.split(".")
    for number in range(1, min(len(parts), MAX_READINGS + 1)):
        row_id, field = ".".join(parts[:number]), ".".join(parts[number:])
        if row_id and field:
            yield row_id, field


async def _first_answer(
    visit: Visit, readings: Iterable[tuple[str, str]], model: str, as_of: str | None
) -> Why:
    """What made the figure, by the first of these readings that the API answers. Raises Problem,
    the refusal of the first reading, if it answers none."""
    refusals = []
    for row_id, field in readings:
        try:
            return await _ask(visit, row_id, field, model, as_of)
        except Problem as problem:
            if problem.status not in {400, 404, 422}:
                raise
            refusals.append(problem)
    raise refusals[0]


async def _ask(visit: Visit, row_id: str, field: str, model: str, as_of: str | int | None) -> Why:
    return await visit.api.get(
        "/api/v1/audit/why", Why, id=row_id, field=field, model=model or None, as_of=as_of
    )


def _refuse(visit: Visit, moment: Moment, problem: Problem) -> None:
    """Show the refusal. The fields that there are stand below it."""
    if moment.concerns(problem):
        moment.refuse(problem)
    elif problem.status not in {404, 422}:
        raise problem
    else:
        visit.form.refuse(problem)
        if problem.code in {"unknown_field", "row_not_found"}:
            visit.form.problem = as_sentence(problem.detail.partition(";")[0])


async def _rows(visit: Visit, row_id: str, found: Why | None) -> list[ReadModel]:
    """The read models with a row of this id; once a figure was found, its own."""
    path, into = "/api/v1/audit/models", Listed[ReadModel]
    if found is not None:
        models = (await visit.api.get(path, into)).items
        return [each for each in models if each.model == found.model]
    return (await visit.api.get(path, into, id=row_id)).items if 0 < len(row_id) <= 500 else []


async def _currency(visit: Visit, found: Why, rows: list[ReadModel]) -> str:
    """The currency of an amount, in the row's key or beside it; empty for all other figures."""
    name = found.field.rpartition(".")[2]
    if not name.endswith("_cents") or not rows:
        return ""
    if "currency" in rows[0].key:
        return found.key.split("/")[rows[0].key.index("currency")]
    if "currency" not in rows[0].fields:
        return ""
    beside = await _ask(visit, found.key, "currency", found.model, found.position)
    values = [beside.value, *(move.before for move in reversed(beside.steps))]
    return next((value for value in values if isinstance(value, str)), "")
