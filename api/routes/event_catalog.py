"""Which events there are, and whether this release reads those of another one, for auditors."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.auth import Auditor
from api.fields import Answer, Body, Page
from api.reading import LogPosition
from api.services import ServicesOf

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

NamePattern = Annotated[
    str, Query(min_length=1, max_length=200, description="A name or a pattern, as `payment.*`.")
]


class EventTypeView(Answer):
    """An event: its meaning, the kind of its stream, the old names that are read as it, its fields,
    the functions that decide it, what folds it, and the reactors that it sets in motion."""

    event: str
    kind: str
    version: int
    earlier: Sequence[str]
    fields: dict[str, dict[str, Any]]
    meaning: str
    declared_in: str
    decided_by: Sequence[str]
    folded_by: Sequence[str]
    reactors: Sequence[str]


class ReleaseEvents(Body):
    """The events of another release: docs/events-release-N.json, as it is."""

    release: Annotated[int, Field(strict=True, ge=0, lt=2**31)]
    events: dict[str, Any]
    upcasters: dict[str, Any]


class ComparedEventView(Answer):
    """How a wire name fared between two releases. `level` is BACKWARD (this release reads the
    other's events), FORWARD (the other reads this one's), FULL or NONE; null for a new event."""

    event: str
    status: str
    level: str | None
    changes: Sequence[str]
    backward: Sequence[str]
    forward: Sequence[str]
    holds: bool


class ComparisonView(Answer):
    """Whether this release reads everything that the other one recorded."""

    against: int
    release: int
    holds: bool
    events: Sequence[ComparedEventView]


@router.get("/catalog", response_model=Page[EventTypeView])
async def list_event_types(
    services: ServicesOf, _: Auditor, head: LogPosition, name: NamePattern = "*"
) -> Response:
    """List every event of the program. Requires AUDITOR or ADMIN."""
    found = await asyncio.to_thread(services.event_types.catalog, name)
    return answer(Page[EventTypeView].model_validate({"items": found}), position=head)


@router.post("/catalog/check", response_model=ComparisonView)
async def check_event_types(
    body: ReleaseEvents, services: ServicesOf, _: Auditor, head: LogPosition
) -> Response:
    """Compare this release's events with those of another one. Requires AUDITOR or ADMIN.

    Errors: 422 `invalid_event_shapes`.
    """
    found = await asyncio.to_thread(services.event_types.check, body.model_dump())
    return answer(ComparisonView.model_validate(found), position=head)
