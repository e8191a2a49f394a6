"""Long work for auditors: what would have been under another setting, and all read models as they
were."""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.auth import Admin, Auditor
from api.fields import Answer, Body, Moment, Page, PriceRegion, Time, Token
from api.reading import LogPosition, moment_in
from api.services import Services, ServicesOf
from commands.caller import Caller
from domain.errors import Conflict, Invalid, NotFound
from queries import audit_tasks, replays
from queries.audit_tasks import AuditTask, Replay, State, WhatIf, Work

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

BasisPoints = Annotated[int, Field(strict=True, ge=0, le=10_000)]
Threshold = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
PositionInPath = Annotated[int, Path(ge=0, lt=2**63)]


class TaxRate(Body):
    """The tax that prices of a region contain; `*` is for all regions that are not named."""

    region: PriceRegion
    tax_bps: BasisPoints


class WhatIfBody(Body):
    """Which settings are to be otherwise, from when on, and until when (by default, the end)."""

    since: Moment = Field(alias="from")
    until: Moment | None = None
    platform_fee_bps: BasisPoints | None = None
    low_stock: Threshold | None = None
    tax_free_prices: Annotated[list[TaxRate], Field(min_length=1, max_length=300)] | None = None


class ReplayBody(Body):
    """The moment: a log position, or an RFC 3339 time."""

    until: Annotated[Token, Field(max_length=64)]


class TaskView(Answer):
    """Work under way, or done. `done` of `total` are behind it in the stage at hand, `per_second`
    and `seconds_left` tell how it goes on. `error` says why it failed."""

    id: UUID
    kind: Literal["whatif", "replay"]
    asked: dict[str, Any]
    asked_by: str
    state: State
    begun_at: Time
    stage: str
    done: int
    total: int
    per_second: float | None
    seconds_left: float | None
    ended_at: Time | None
    error: str
    result: Any


class ReplayView(Answer):
    """A schema with read models as they were at a position. It is `complete`, `interrupted`, made
    `for queries`, `of a lost history`, or lacks tables since somebody was forgotten."""

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
    return await _started(services, asked, caller)


@router.post("/replays", status_code=202, response_model=TaskView)
async def start_replay(body: ReplayBody, services: ServicesOf, caller: Auditor) -> Response:
    """Build all read models as they were at a moment, into a schema that stays until it is dropped:
    a task, one at a time. `?as_of=` that position then answers at once. What is there of it is not
    built again. Requires AUDITOR or ADMIN.

    Errors: 422 `invalid_as_of`; 400 `position_unknown`; 409 `audit_task_running`.
    """
    position = await services.audit.position_at(moment_in(body.until))
    return await _started(services, Replay(position), caller)


async def _started(services: Services, work: Work, caller: Caller) -> Response:
    task_id = await services.start_task(work, caller.actor)
    location = f"{router.prefix}/tasks/{task_id}"
    return answer(
        _shown(await _task(services, task_id)), status=202, headers={"Location": location}
    )


@router.get("/tasks", response_model=Page[TaskView])
async def list_tasks(services: ServicesOf, _: Auditor, head: LogPosition) -> Response:
    """List the what-ifs and replays that were asked for over HTTP lately, the latest first.
    Requires AUDITOR or ADMIN."""
    items = [_shown(each) for each in await audit_tasks.tasks(services.log.pool)]
    return answer(Page[TaskView](items=items), position=head)


@router.get("/tasks/{task_id}", response_model=TaskView)
async def get_task(task_id: UUID, services: ServicesOf, _: Auditor, head: LogPosition) -> Response:
    """Return how far a what-if or a replay is, and its result. Requires AUDITOR or ADMIN."""
    return answer(_shown(await _task(services, task_id)), position=head)


async def _task(services: Services, task_id: UUID) -> AuditTask:
    found = await audit_tasks.task(services.log.pool, task_id)
    if found is None:
        raise NotFound("task_not_found", "there is no such task, or none any more")
    return found


def _shown(task: AuditTask) -> TaskView:
    asked = msgspec.json.decode(task.asked, type=dict[str, Any])
    kind = asked.pop("type")
    died = "its process died" if task.state == "FAILED" else ""
    return TaskView(
        id=task.id,
        kind=kind,
        asked=asked,
        asked_by=task.asked_by,
        state=task.state,
        begun_at=task.begun_at,
        stage=task.stage,
        done=task.done,
        total=task.total,
        per_second=task.per_second,
        seconds_left=task.seconds_left if task.state == "RUNNING" else None,
        ended_at=task.ended_at,
        error=task.error or died,
        result=None if task.result is None else msgspec.json.decode(task.result),
    )


@router.get("/replays", response_model=Page[ReplayView])
async def list_replays(services: ServicesOf, _: Auditor, head: LogPosition) -> Response:
    """List the schemas with read models as they were, also those that queries had built. Requires
    AUDITOR or ADMIN."""
    items = await services.replays.all()
    return answer(Page[ReplayView].model_validate({"items": items}), position=head)


@router.delete("/replays/{position}", status_code=204)
async def drop_replay(position: PositionInPath, services: ServicesOf, _: Admin) -> Response:
    """Drop a schema with read models as they were. Requires ADMIN.

    Errors: 404 `replay_not_found`; 409 `replay_in_use`.
    """
    try:
        dropped = await services.replays.drop(position)
    except replays.InUse as error:
        raise Conflict("replay_in_use", str(error)) from error
    if not dropped:
        raise NotFound("replay_not_found", f"there is no replay of position {position}")
    return answer(None, status=204)
