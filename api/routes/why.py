"""Why a figure is what it is, for auditors."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.answers import answer
from api.auth import Auditor
from api.fields import Answer
from api.reading import AsOf, LogPosition
from api.services import ServicesOf
from api.views.events import CauseView
from api.views.stops import StopView
from queries.audit import why as why_query

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])


class StepView(Answer):
    """An event that changed the field. `causes` begins with the direct cause and ends with the
    request's own event; it is empty where the event is the request's own. `amended_at` is the
    position at which it was declared that the event is read with another payload."""

    event: CauseView
    before: Any
    after: Any
    causes: Sequence[CauseView]
    amended_at: int | None


class WhyView(Answer):
    """A field of a row of a read model as of a position, and the events that changed it, in order.
    `exists` is false once the row was removed. `left_out` counts earlier changes."""

    model: str
    key: str
    field: str
    position: int
    exists: bool
    value: Any
    steps: Sequence[StepView]
    left_out: int
    stopped_by: Sequence[StopView]


@router.get("/why", response_model=WhyView)
async def why(
    services: ServicesOf,
    _: Auditor,
    head: LogPosition,
    as_of: AsOf,
    id: Annotated[
        str,
        Query(
            min_length=1,
            max_length=500,
            description='The key of the row; with several parts, these joined by "/".',
        ),
    ],
    field: Annotated[
        str,
        Query(
            min_length=1,
            max_length=200,
            description="A field of the row; what is inside of lists and objects after dots, such"
            " as `lines.0.quantity`.",
        ),
    ],
    model: Annotated[
        str | None,
        Query(max_length=100, description="The read model, where the id is a key in several."),
    ] = None,
) -> Response:
    """Return the events that made a figure, and how each moved it, with their causes back to the
    request. Personal data are shown as `[encrypted]`. Requires AUDITOR or ADMIN."""
    position = head if as_of is None else as_of
    found = await why_query.why(
        services.log,
        id,
        field,
        model=model,
        position=position,
        most_positions=why_query.MAX_POSITIONS,
    )
    return answer(WhyView.model_validate(found), position=position)
