"""Amendments: how an event that nobody can apply is read instead. What is declared is shown, and
confirmed, on a page of its own first."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec
from starlette.responses import Response

from web import values
from web.api_client import Listed, Nothing, Problem
from web.console import payloads
from web.console.acting import may_act, reason_of
from web.console.answers import Event
from web.console.catalog import EventType
from web.console.entering import console_router
from web.console.payloads import BadPayload
from web.forms import Form, number
from web.routing import FormLimits
from web.visit import Visit

router = console_router()

LIMITS = FormLimits(text_bytes=1024 * 1024)
"""A payload may be long."""


class Reading(msgspec.Struct, frozen=True):
    """How an event is read, as was declared at the position `declared_at`."""

    position: int
    stream_id: str
    name: str
    reading: Literal["as_recorded", "skip", "amend"]
    payload: dict[str, Any] | None
    reason: str
    declared_at: int
    declared_by: str
    at: datetime

    @property
    def words(self) -> str:
        """How it is read, in words."""
        return WORDS[self.reading]


class Hold(msgspec.Struct, frozen=True):
    """A consumer that could not apply the event."""

    feed: str
    error: str
    since: datetime
    attempts: int
    retry: bool


class Broken(msgspec.Struct, frozen=True):
    """An event, the consumers that could not apply it, and how it is read, if that was ever
    declared."""

    event: Event
    held_by: list[Hold]
    reading: Reading | None

    @property
    def is_amended(self) -> bool:
        """Whether it is read differently from how it was recorded."""
        return self.reading is not None and self.reading.reading != "as_recorded"

    @property
    def payload(self) -> dict[str, Any] | None:
        """The payload that it is read with now; None if it is skipped."""
        if self.reading is None or self.reading.reading == "as_recorded":
            return self.event.payload
        return self.reading.payload

    def is_read_as(self, reading: str, payload: dict[str, Any] | None) -> bool:
        """Whether this is the declared reading."""
        declared = self.reading
        return declared is not None and (declared.reading, declared.payload) == (reading, payload)

    @property
    def declared_at(self) -> int:
        """The position of the declaration that stands; 0 without one."""
        return 0 if self.reading is None else self.reading.declared_at


WORDS = {"skip": "Skipped", "amend": "Read with another payload", "as_recorded": "As recorded"}


@dataclass(frozen=True)
class Act:
    """A way to declare how an event is read. `reading` is the API's name for it, `title` asks,
    `label` is on the button, `done` says that it is done."""

    reading: str
    title: str
    label: str
    done: str


ACTS: Mapping[str, Act] = {
    "skip": Act("skip", "Skip it?", "Skip it", "It is skipped from now on."),
    "amend": Act(
        "amend",
        "Read it with another payload?",
        "Read it like this",
        "It is read with this payload from now on.",
    ),
    "withdraw": Act(
        "as_recorded",
        "Read it as it was recorded?",
        "Read it as recorded",
        "It is read as it was recorded from now on.",
    ),
}


@router.get("/console/amendments")
async def show_amendments(visit: Visit) -> Response:
    """All events whose reading was ever declared."""
    position = visit.query("position")
    if (found_at := number(position)) is not None:
        return visit.go(f"/console/amendments/{found_at}")
    visit.form = Form({"position": position})
    if position:
        visit.form.errors["position"] = "This is no position of the log."
    found = await visit.api.get("/api/v1/ops/amendments", Listed[Reading])
    return visit.page(
        "console/amendments.html", status=422 if position else 200, readings=found.items
    )


@router.get("/console/amendments/{position}")
async def show_event(visit: Visit) -> Response:
    """An event, how it is read, and the forms that declare another reading."""
    return await _event_page(visit)


@router.post("/console/amendments/{position}/{act}", limits=LIMITS)
async def declare(visit: Visit) -> Response:
    """Show what would be declared; once that is confirmed, declare it."""
    act = ACTS.get(visit.part("act"))
    if act is None:
        raise Problem("not_found", 404)
    reason, payload = reason_of(visit), _payload(visit, act)
    if reason is None or visit.form.errors:
        return await _event_page(visit, status=422)
    broken = await _broken(visit)
    if not visit.form.text("confirmed"):
        return await _confirm_page(visit, act, broken, payload)
    return await _declared(visit, act, broken, payload, reason)


async def _declared(
    visit: Visit, act: Act, broken: Broken, payload: dict[str, Any] | None, reason: str
) -> Response:
    is_seen = visit.form.text("declared_at") == str(broken.declared_at)
    if not is_seen and not broken.is_read_as(act.reading, payload):
        visit.form.problem = "Somebody declared something else meanwhile. Nothing was done."
        return await _event_page(visit, status=409)
    path = f"/api/v1/ops/amendments/{broken.event.position}"
    try:
        body = {"reading": act.reading, "payload": payload, "reason": reason}
        await visit.api.put(path, body, Nothing)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _event_page(visit, status=problem.status)
    notice = f"{act.done} Everybody who folds it takes that up within seconds."
    return visit.go(f"/console/amendments/{broken.event.position}", notice)


def _payload(visit: Visit, act: Act) -> dict[str, Any] | None:
    """The payload that was typed. If it is not valid: None, and an error in the form."""
    if act.reading != "amend":
        return None
    try:
        return payloads.typed(visit.form.secret("payload"))
    except BadPayload as error:
        visit.form.errors["payload"] = str(error)
        return None


async def _broken(visit: Visit) -> Broken:
    position = visit.part("position")
    return await visit.api.get(f"/api/v1/ops/amendments/{position}", Broken)


async def _event_page(visit: Visit, status: int = 200) -> Response:
    broken = await _broken(visit)
    readable = broken.event.payload if broken.payload is None else broken.payload
    return visit.page(
        "console/amendment.html",
        status=status,
        broken=broken,
        here=f"/console/amendments/{broken.event.position}",
        recorded=values.lines(broken.event.payload),
        readable=payloads.shown(readable),
        may_act=may_act(visit),
    )


async def _confirm_page(
    visit: Visit, act: Act, broken: Broken, payload: dict[str, Any] | None
) -> Response:
    """The page that shows how the event will be read, and by which consumers."""
    after = broken.event.payload if act.reading == "as_recorded" else payload
    found = await visit.api.get("/api/v1/audit/catalog", Listed[EventType])
    kinds = [each for each in found.items if broken.event.name in {each.event, *each.earlier}]
    return visit.page(
        "console/amend_confirm.html",
        act=act,
        broken=broken,
        here=f"/console/amendments/{broken.event.position}",
        action=visit.request.url.path,
        payload=None if payload is None else payloads.shown(payload),
        differences=values.compared(broken.payload, after),
        folded_by=[name for each in kinds for name in each.folded_by],
        reactors=[name for each in kinds for name in each.reactors],
    )
