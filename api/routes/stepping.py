"""A read model's row, event by event, for auditors."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.answers import answer
from api.auth import Auditor
from api.fields import Answer, Page
from api.reading import AsOf, LogPosition
from api.services import ServicesOf
from api.views.events import CauseView
from api.views.stops import StopView
from queries.audit.row_keys import models_with
from queries.audit.stepping import keys_and_fields, stepped
from queries.audit.why import MAX_POSITIONS

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])


class ReadModelView(Answer):
    """A read model: the fields of its rows' keys, and all fields."""

    model: str
    key: Sequence[str]
    fields: Sequence[str]


class StepHeadView(Answer):
    """An event that the row was folded from, numbered from 1 on, and whether it changed the row."""

    number: int
    position: int
    name: str
    changed: bool


class SteppedView(Answer):
    """A row at a step: the event, and the row before and after it (null: there was, or is, none).

    Steps are the events of the row's streams that the read model folds; of a row that any stream
    may feed, those that changed it. `steps` lists the latest 500 of all (`count`). `amended_at` is
    the position at which it was declared that the event is read with another payload.
    """

    model: str
    key: str
    number: int
    count: int
    event: CauseView
    amended_at: int | None
    before: Any
    after: Any
    steps: Sequence[StepHeadView]
    stopped_by: Sequence[StopView]


@router.get("/models", response_model=Page[ReadModelView])
async def list_read_models(
    services: ServicesOf,
    _: Auditor,
    head: LogPosition,
    id: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=500,
            description="List only those that have, or had, a row with this key; the parts of a"
            ' key are joined by "/".',
        ),
    ] = None,
) -> Response:
    """List the read models, and what their rows are found by. Requires AUDITOR or ADMIN."""
    found = keys_and_fields()
    if id is not None:
        log = await services.log.as_of(head)
        names = {model.name for model in await models_with(log, id, head)}
        found = {name: each for name, each in found.items() if name in names}
    items = [
        ReadModelView(model=name, key=key, fields=fields) for name, (key, fields) in found.items()
    ]
    return answer(Page[ReadModelView](items=items), position=head)


@router.get("/steps", response_model=SteppedView)
async def get_step(
    services: ServicesOf,
    _: Auditor,
    head: LogPosition,
    as_of: AsOf,
    model: Annotated[str, Query(min_length=1, max_length=100)],
    id: Annotated[
        str,
        Query(
            min_length=1,
            max_length=500,
            description='The key of the row; with several parts, these joined by "/".',
        ),
    ],
    step: Annotated[
        int | None, Query(ge=1, lt=2**63, description="The step's number; by default the latest.")
    ] = None,
) -> Response:
    """Return a row of a read model before and after one of the events that it was folded from.
    Personal data are shown as `[encrypted]`. Requires AUDITOR or ADMIN.

    Errors: 404 `row_not_found`; 422 `unknown_model`, `invalid_key`, `history_too_long`.
    """
    position = head if as_of is None else as_of
    found = await stepped(
        services.log, model, id, upto=position, number=step, most_positions=MAX_POSITIONS
    )
    return answer(SteppedView.model_validate(found), position=position)
