"""Long work for auditors: what would have been under another setting, all read models as they were,
and whether the whole log is as it was appended."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from api.answers import answer
from api.auth import Admin, Auditor
from api.fields import REASON, Answer, Body, Moment, Page, PriceRegion, Reason, Time, Token
from api.reading import LogPosition, position_of
from api.services import ServicesOf
from api.views.audit_tasks import TaskView, task_view, under_way, view_of
from domain.errors import Conflict, Invalid, NotFound
from queries.audit import replays
from queries.audit import tasks as audit_tasks
from queries.audit.tasks import Replay, Verification, WhatIf

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

BasisPoints = Annotated[int, Field(strict=True, ge=0, le=10_000)]
Threshold = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
PositionInPath = Annotated[int, Path(ge=0, lt=2**63)]


class TaxRate(Body):
    """The tax that prices of a region contain; `*` is for all regions that are not named."""

    region: PriceRegion
    tax_bps: BasisPoints


class WhatIfBody(Body):
    """The settings to change, from when on, and until when (by default, the end of the log)."""

    since: Moment = Field(alias="from")
    until: Moment | None = None
    platform_fee_bps: BasisPoints | None = None
    low_stock: Threshold | None = None
    tax_free_prices: Annotated[list[TaxRate], Field(min_length=1, max_length=300)] | None = None
    reason: Reason | None = Field(None, description=REASON)


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


_Typed = Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1, max_length=64)]

PastMoment = Annotated[
    Token,
    Field(max_length=64),
    BeforeValidator(_number_as_text, json_schema_input_type=_Typed),
]
"""A log position, as a number or a text, or an RFC 3339 time."""


class ReplayBody(Body):
    """The moment: a log position, or an RFC 3339 time."""

    until: PastMoment
    reason: Reason | None = Field(None, description=REASON)


class ReplayView(Answer):
    """A schema with read models as they were at a position. It is `complete`, `interrupted`, made
    `for queries`, `of a lost history`, or lacks tables since somebody was forgotten, or read models
    of this release that an older one did not have."""

    schema_name: str
    position: int
    state: str
    kept: bool
    made_at: Time
    used_at: Time
    bytes: int
    read_models: int


@router.post("/whatif", status_code=202, response_model=TaskView)
async def start_what_if(body: WhatIfBody, services: ServicesOf, caller: Auditor) -> Response:
    """Decide again, from the log, what depends on a setting, and compare with what was posted and
    sent: a task, one at a time. Requires AUDITOR or ADMIN.

    Errors: 422 `invalid_request`; 409 `audit_task_running`.
    """
    if body.until is not None and body.until <= body.since:
        raise Invalid("invalid_request", "until must be after from")
    rates = body.tax_free_prices
    if body.platform_fee_bps is None and body.low_stock is None and rates is None:
        raise Invalid(
            "invalid_request", "name one of platform_fee_bps, low_stock and tax_free_prices"
        )
    by_region = None if rates is None else {each.region: each.tax_bps for each in rates}
    if rates is not None and by_region is not None and len(by_region) < len(rates):
        raise Invalid("invalid_request", "tax_free_prices has a region twice")
    asked = WhatIf(body.since, body.until, body.platform_fee_bps, body.low_stock, by_region)
    return await under_way(services, await services.start_task(asked, caller, body.reason))


@router.post("/replays", status_code=202, response_model=TaskView)
async def start_replay(body: ReplayBody, services: ServicesOf, caller: Auditor) -> Response:
    """Build all read models as they were at a moment, into a schema that stays until it is dropped:
    a task, one at a time. `?as_of=` that position then answers at once. What is there of it is not
    built again. Requires AUDITOR or ADMIN.

    Errors: 422 `invalid_as_of`; 400 `position_unknown`; 409 `audit_task_running`.
    """
    position = await position_of(services, body.until, "until")
    task_id = await services.start_task(Replay(position), caller, body.reason)
    return await under_way(services, task_id)


@router.post("/verifications", status_code=202, response_model=TaskView)
async def start_verification(services: ServicesOf, caller: Auditor) -> Response:
    """Start a task that verifies the hash chain from the first event to the last, and that the log
    has what was signed. It changes nothing; its result has the positions, the rate, and the faults.
    Requires AUDITOR or ADMIN.

    Errors: 409 `audit_task_running`.
    """
    return await under_way(services, await services.start_task(Verification(), caller))


@router.get("/tasks", response_model=Page[TaskView])
async def list_tasks(services: ServicesOf, _: Auditor, head: LogPosition) -> Response:
    """List the tasks (what-ifs, replays, rebuilds, comparisons, verifications) that were asked for
    over HTTP lately, the latest first. Requires AUDITOR or ADMIN."""
    items = [view_of(each) for each in await audit_tasks.tasks(services.log.pool)]
    return answer(Page[TaskView](items=items), position=head)


@router.get("/tasks/{task_id}", response_model=TaskView)
async def get_task(task_id: UUID, services: ServicesOf, _: Auditor, head: LogPosition) -> Response:
    """Return how far a task is, and its result. Requires AUDITOR or ADMIN."""
    return answer(await task_view(services, task_id), position=head)


@router.get("/replays", response_model=Page[ReplayView])
async def list_replays(services: ServicesOf, _: Auditor, head: LogPosition) -> Response:
    """List the schemas with read models as they were, also those that queries had built. Requires
    AUDITOR or ADMIN."""
    items = await services.replays.all()
    return answer(Page[ReplayView].model_validate({"items": items}), position=head)


@router.delete("/replays/{position}", status_code=204)
async def drop_replay(
    position: PositionInPath,
    services: ServicesOf,
    caller: Admin,
    reason: Annotated[Reason | None, Query(description=REASON)] = None,
) -> Response:
    """Drop a schema with read models as they were. Requires ADMIN.

    Errors: 404 `replay_not_found`; 409 `replay_in_use`.
    """
    async with services.commands.acts.recorded(
        caller, "replay.drop", target=str(position), reason=reason
    ) as act:
        try:
            dropped = await services.replays.drop(position)
        except replays.InUse as error:
            raise Conflict("replay_in_use", str(error)) from error
        if not dropped:
            raise NotFound("replay_not_found", f"there is no replay of position {position}")
        act.affected = 1
    return answer(None, status=204, position=act.position)
