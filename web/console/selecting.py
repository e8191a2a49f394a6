"""Acting on everything that a filter shows: the list with its filter, and a page that says what
will happen before it does."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.responses import Response

from web.api_client import Problem
from web.console.acting import may_act, reason_of
from web.forms import number
from web.routing import Router
from web.visit import Visit


class Acted(msgspec.Struct, frozen=True):
    """How many were acted on, and how many were not there any more."""

    done: int
    gone: int


@dataclass(frozen=True)
class Selectable:
    """Things that are listed and acted on. `path` is their page, which `template` renders; `listed`
    is the path of the API that lists them as a `selection`, `acted` the one that acts. `fields` are
    the filter's. `one` and `many` name them, `act` says what happens to them, `label` what the
    button does, and `done` what has happened. `at` is the last part of the path of the page that
    asks; with `tells_undone` it says of each what would be left undone."""

    path: str
    template: str
    listed: str
    acted: str
    selection: type[Any]
    fields: tuple[str, ...]
    one: str
    many: str
    act: str
    label: str
    done: str
    effect: str
    at: str = "all"
    tells_undone: bool = False

    @property
    def asks_at(self) -> str:
        """The path of the page that says what will happen."""
        return f"{self.path}/{self.at}"

    def named(self, count: int) -> str:
        """That many of them: "1 dead letter"."""
        return f"{count:,} {self.one if count == 1 else self.many}"


def add_pages(router: Router, of: Selectable, or_else: Selectable | None = None) -> None:
    """The page that lists them, and of each act the one that asks and the form that acts."""

    @router.get(of.path)
    async def list_page(visit: Visit) -> Response:
        return await _list_page(visit, of, or_else)

    for each in (of,) if or_else is None else (of, or_else):
        _add_act(router, each)


def _add_act(router: Router, of: Selectable) -> None:
    @router.get(of.asks_at)
    async def ask(visit: Visit) -> Response:
        return await _asking_page(visit, of)

    @router.post(of.asks_at)
    async def act(visit: Visit) -> Response:
        return await _act(visit, of)


async def _list_page(visit: Visit, of: Selectable, or_else: Selectable | None) -> Response:
    """The list, and the acts on everything that it shows."""
    chosen = _chosen(visit, of)
    found = await visit.api.get(of.listed, of.selection, **chosen)
    return visit.page(
        of.template,
        of=of,
        found=found,
        chosen=chosen,
        confirm=_confirm_path(of, chosen, found.before),
        or_else=or_else,
        confirm_else=_confirm_path(or_else, chosen, found.before) if or_else else None,
        may_act=may_act(visit),
    )


async def _asking_page(visit: Visit, of: Selectable, status: int = 200) -> Response:
    """What will happen, to how many, and why."""
    is_sent = visit.request.method == "POST"
    chosen = {**_chosen(visit, of), "before": visit.query("before") or None}
    if is_sent:
        chosen = {name: visit.form.text(name) or None for name in (*of.fields, "before")}
    found = await visit.api.get(of.listed, of.selection, **chosen)
    filters = {name: text for name in of.fields if (text := chosen[name])}
    return visit.page(
        "console/confirm.html",
        status=status,
        of=of,
        found=found,
        filters=filters,
        counted_at=datetime.fromisoformat(found.before),
        back=_list_path(of, filters),
    )


async def _act(visit: Visit, of: Selectable) -> Response:
    """Do it, if the filter still shows as many."""
    reason = reason_of(visit)
    if reason is None:
        return await _asking_page(visit, of, status=422)
    filters = {name: visit.form.text(name) for name in of.fields if visit.form.text(name)}
    body = {
        **filters,
        "before": visit.form.text("before"),
        "expected": number(visit.form.text("expected")) or 0,
        "reason": reason,
    }
    try:
        done = await visit.api.post(of.acted, body, Acted, once=visit.form.secret("once"))
    except Problem as problem:
        visit.form.refuse(problem)
        return await _asking_page(visit, of, status=problem.status)
    notice = f"{of.named(done.done)} {of.done}."
    if done.gone:
        notice += f" {of.named(done.gone)} had gone meanwhile."
    return visit.go(_list_path(of, filters), notice)


def _chosen(visit: Visit, of: Selectable) -> dict[str, str | None]:
    return {name: visit.query(name) or None for name in of.fields}


def _list_path(of: Selectable, filters: dict[str, str]) -> str:
    return f"{of.path}?{urlencode(filters)}" if filters else of.path


def _confirm_path(of: Selectable, chosen: dict[str, str | None], before: str) -> str:
    given = {name: text for name, text in chosen.items() if text}
    return f"{of.asks_at}?{urlencode({**given, 'before': before})}"
