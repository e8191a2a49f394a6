"""For operators: how an event that no fold can apply is to be read instead."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import model_validator
from starlette.responses import Response

from api.answers import answer
from api.auth import Admin, Auditor
from api.fields import Answer, Body, Page, Reason, Time
from api.reading import LogPosition
from api.services import Services, ServicesOf
from commands.amendments import AmendmentCommands
from domain.errors import NotFound
from queries.operations.amendments import AmendedEvents

router = APIRouter(prefix="/api/v1/ops", tags=["operations"])

Position = Annotated[int, Path(ge=1, lt=2**63)]


class Declaration(Body):
    """How the event is to be read: `skip`, `amend` with a payload of its type, or `as_recorded`
    after all. A personal field given as `[encrypted]` stays as it is."""

    reading: Literal["as_recorded", "skip", "amend"]
    reason: Reason
    payload: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.payload is not None) != (self.reading == "amend"):
            raise ValueError("a payload belongs to the reading amend, and only to it")
        return self


class ReadingView(Answer):
    """How an event is read instead of as it was recorded; who declared it at which position, and
    why. Personal fields show as `[encrypted]`."""

    position: int
    event_id: UUID
    stream_id: UUID
    name: str
    reading: str
    payload: dict[str, Any] | None
    reason: str
    declared_at: int
    declared_by: str
    at: Time


class BrokenEventView(Answer):
    position: int
    event_id: UUID
    stream_id: UUID
    version: int
    name: str
    recorded_at: Time
    occurred_at: Time
    actor: str
    payload: dict[str, Any]


class HoldView(Answer):
    """A consumer that could not apply the event, and why."""

    id: UUID
    feed: str
    error: str
    since: Time
    attempts: int
    retry: bool


class BrokenView(Answer):
    """An event as it was recorded, the consumers that could not apply it, and how it is read if
    that was ever declared."""

    event: BrokenEventView
    held_by: Sequence[HoldView]
    reading: ReadingView | None


@router.get("/quarantine/{quarantine_id}", response_model=BrokenView)
async def get_quarantined(
    quarantine_id: UUID, services: ServicesOf, _: Auditor, head: LogPosition
) -> Response:
    """Return the event that a stream is in quarantine for. Requires AUDITOR or ADMIN."""
    events = _events(services)
    position = await events.position_of(quarantine_id)
    broken = None if position is None else await events.broken(position)
    if broken is None:
        raise NotFound("quarantine_not_found", "this stream is not in quarantine")
    return answer(BrokenView.model_validate(broken), position=head)


@router.get("/amendments", response_model=Page[ReadingView])
async def list_amendments(services: ServicesOf, _: Auditor, head: LogPosition) -> Response:
    """List the events for which it was declared how they are to be read. Requires AUDITOR or
    ADMIN."""
    readings = await _events(services).readings()
    return answer(Page[ReadingView].model_validate({"items": readings}), position=head)


@router.get("/amendments/{position}", response_model=BrokenView)
async def get_event_to_amend(
    position: Position, services: ServicesOf, _: Auditor, head: LogPosition
) -> Response:
    """Return the event at a position, the consumers that could not apply it, and how it is read.
    Requires AUDITOR or ADMIN."""
    found = await _events(services).broken(position)
    if found is None:
        raise NotFound("event_not_found", f"the log has no event at position {position}")
    return answer(BrokenView.model_validate(found), position=head)


@router.put("/amendments/{position}", response_model=ReadingView)
async def declare(
    position: Position, body: Declaration, services: ServicesOf, caller: Admin
) -> Response:
    """Declare how the event at a position is to be read by all who fold. It stays in the log as it
    is, and what was declared last stands. Requires ADMIN."""
    commands: AmendmentCommands = services.commands.amendments
    if body.reading == "amend":
        result = await commands.amend(caller, position, body.payload or {}, body.reason)
    elif body.reading == "skip":
        result = await commands.skip(caller, position, body.reason)
    else:
        result = await commands.withdraw(caller, position, body.reason)
    reading = await _events(services).reading(position)
    assert reading is not None
    at = await services.log.head() if result.position is None else result.position
    return answer(ReadingView.model_validate(reading), position=at)


def _events(services: Services) -> AmendedEvents:
    return AmendedEvents(services.log, services.audit, services.operations)
