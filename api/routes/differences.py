"""What changed between two moments, for auditors."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.answers import answer
from api.auth import Auditor
from api.fields import Answer, Time
from api.reading import position_of
from api.services import ServicesOf
from api.views.stops import StopView
from domain.errors import Invalid
from queries.audit.differences import About, Kind, differences

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

Moment = Annotated[
    str, Query(max_length=64, description="A log position or an RFC 3339 time.", min_length=1)
]


class EventOfChange(Answer):
    """An event, and who caused it by which request."""

    position: int
    event_id: UUID
    stream_id: UUID
    version: int
    name: str
    occurred_at: Time
    actor: str
    correlation_id: UUID | None
    causation_id: UUID | None
    traceparent: str | None


class FieldChangeView(Answer):
    """A field, from what to what, and the positions of the events that changed it; both values are
    the same when it was changed back."""

    field: str
    before: Any
    after: Any
    positions: Sequence[int]


class RowChangeView(Answer):
    """A row of a read model that changed."""

    model: str
    key: str
    what: Literal["added", "changed", "removed"]
    fields: Sequence[FieldChangeView]


class DifferenceView(Answer):
    """The rows that changed after the position `first`, up to `last`, and the events that changed
    them, in order. `left_out` counts further rows."""

    first: int
    last: int
    rows: Sequence[RowChangeView]
    events: Sequence[EventOfChange]
    left_out: int
    stopped_by: Sequence[StopView]


@router.get("/diff", response_model=DifferenceView)
async def diff(
    services: ServicesOf,
    _: Auditor,
    first: Annotated[Moment, Query(alias="from")],
    last: Annotated[Moment, Query(alias="to")],
    order: UUID | None = None,
    wallet: UUID | None = None,
    game: UUID | None = None,
    user: UUID | None = None,
) -> Response:
    """Return what changed after one moment, up to another: in the whole shop, or in an order, a
    wallet, a game or an account. Personal data are shown as `[encrypted]`. Requires
    AUDITOR or ADMIN.

    Errors: 422 `moments_reversed`, `range_too_long`; 404 `row_not_found`.
    """
    given: dict[Kind, UUID | None] = {"order": order, "wallet": wallet, "game": game, "user": user}
    abouts = [About(kind, id_) for kind, id_ in given.items() if id_ is not None]
    if len(abouts) > 1:
        raise Invalid("invalid_request", "name at most one of order, wallet, game and user")
    found = await differences(
        services.log,
        services.reads,
        await position_of(services, first, "from"),
        await position_of(services, last, "to"),
        abouts[0] if abouts else None,
        bounded=True,
    )
    return answer(DifferenceView.model_validate(found), position=found.last)
