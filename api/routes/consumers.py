"""The consumers of the log, for operators: how far each is and who leads it; rebuilding, comparing
and rolling back read models."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.auth import Admin, Auditor
from api.fields import REASON, Answer, Body, Page, Reason, Time
from api.reading import LogPosition
from api.services import Services, ServicesOf
from api.views.audit_tasks import TaskView, under_way
from domain.errors import NotFound
from queries.audit.tasks import Comparison, Rebuild
from queries.operations import consumers
from queries.operations.consumers import Consumer, Fed

router = APIRouter(prefix="/api/v1/ops", tags=["operations"])

Name = Annotated[str, Path(max_length=200)]


class FeedView(Answer):
    """A subscription: where it is, what is so with it (`live`, `standby`, `building`, `paused`,
    `catching up` up to `ready_at`, `astray`, or of another version), how far it is behind in events
    (`lag`) and since how many seconds, who leads it, how many streams it has in quarantine
    (`parked`), and how many commands a rule refused. One that is not fed has no lag."""

    feed: str
    version: int
    storage: str
    state: str
    position: int
    lag: int | None
    behind_seconds: float | None
    ready_at: int | None
    led_by: str | None
    paused: bool
    parked: int
    refused: int
    updated_at: Time


class ConsumerView(FeedView):
    """A read model, a reactor or the relay, with the subscription that this release reads or feeds,
    and all of its subscriptions. `keeps_rows`: it is a read model. `known`: this release has it.
    `goes_back`: there is a storage of before the last rebuild."""

    name: str
    head: int
    keeps_rows: bool
    known: bool
    goes_back: bool
    feeds: list[FeedView]


class RebuildBody(Body):
    """With `replace` the new rows take the place of the live ones even if they differ, as those are
    wrong."""

    replace: bool = False
    reason: Reason | None = Field(None, description=REASON)


class RollbackBody(Body):
    """Why queries read earlier rows again."""

    reason: Reason | None = Field(None, description=REASON)


class RolledBack(Answer):
    """What queries of a read model read again."""

    projection: str
    storage: str


def _no_consumer() -> NotFound:
    return NotFound("projection_not_found", "there is no projection of this name")


@router.get("/consumers", response_model=Page[ConsumerView])
async def list_consumers(services: ServicesOf, _: Auditor, head: LogPosition) -> Response:
    """List all consumers of the log that have run, by name. Requires AUDITOR or ADMIN."""
    found = await consumers.consumers(services.log.pool, services.operations)
    return answer(Page[ConsumerView](items=[_view(each) for each in found]), position=head)


@router.get("/consumers/{name}", response_model=ConsumerView)
async def get_consumer(name: Name, services: ServicesOf, _: Auditor, head: LogPosition) -> Response:
    """Return a consumer of the log. Requires AUDITOR or ADMIN."""
    return answer(_view(await _consumer(services, name)), position=head)


@router.post("/projections/{name}/rebuilds", status_code=202, response_model=TaskView)
async def start_rebuild(
    name: Name, body: RebuildBody, services: ServicesOf, caller: Admin
) -> Response:
    """Start a task (`GET /api/v1/audit/tasks/{id}`) that rebuilds a read model in a process of its
    own, beside the live one. It compares the rows, and switches queries over if they are the same.
    Requires ADMIN.

    Errors: 404 `projection_not_found`; 409 `audit_task_running`.
    """
    await _must_keep_rows(services, name)
    task_id = await services.start_task(Rebuild(name, body.replace), caller, body.reason)
    return await under_way(services, task_id)


@router.post("/projections/{name}/comparisons", status_code=202, response_model=TaskView)
async def start_comparison(name: Name, services: ServicesOf, caller: Auditor) -> Response:
    """Start a task that compares the rows of a read model with those that the log gives. It changes
    nothing. Requires AUDITOR or ADMIN.

    Errors: 404 `projection_not_found`; 409 `audit_task_running`.
    """
    await _must_keep_rows(services, name)
    return await under_way(services, await services.start_task(Comparison(name), caller))


@router.post("/projections/{name}/rollback", response_model=RolledBack)
async def roll_back(
    name: Name, services: ServicesOf, caller: Admin, body: RollbackBody | None = None
) -> Response:
    """Let queries read the storage of before the last rebuild again, which was kept up to date.
    Requires ADMIN.

    Errors: 404 `projection_not_found`; 409 `nothing_earlier`, `catching_up`, `rebuild_running`.
    """
    await _must_keep_rows(services, name)
    reason = None if body is None else body.reason
    async with services.commands.acts.recorded(
        caller, "projection.rollback", target=name, reason=reason
    ) as act:
        storage = await services.roll_back(name)
        act.affected, act.details = 1, {"storage": storage}
    return answer(RolledBack(projection=name, storage=storage), position=act.position)


async def _consumer(services: Services, name: str) -> Consumer:
    found = await consumers.consumers(services.log.pool, services.operations, name)
    if not found:
        raise _no_consumer()
    return found[0]


async def _must_keep_rows(services: Services, name: str) -> None:
    """Raises NotFound unless this release has a read model of this name that has run."""
    consumer = await _consumer(services, name)
    if not (consumer.keeps_rows and consumer.known):
        raise _no_consumer()


def _view(consumer: Consumer) -> ConsumerView:
    return ConsumerView(
        **_feed(consumer.current).model_dump(),
        name=consumer.name,
        head=consumer.current.subscription.head,
        keeps_rows=consumer.keeps_rows,
        known=consumer.known,
        goes_back=consumer.goes_back,
        feeds=[_feed(each) for each in consumer.feeds],
    )


def _feed(fed: Fed) -> FeedView:
    one = fed.subscription
    return FeedView(
        feed=one.feed,
        version=one.version,
        storage=one.storage,
        state=fed.state,
        position=one.position,
        lag=one.lag,
        behind_seconds=fed.behind_seconds,
        ready_at=one.ready_at,
        led_by=fed.led_by,
        paused=one.paused,
        parked=one.parked,
        refused=one.refused,
        updated_at=one.updated_at,
    )
