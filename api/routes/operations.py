"""What operators see and do: projections, dead letters, quarantine."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from api.answers import answer
from api.auth import Auditor
from api.fields import Answer, Page, Time
from api.reading import LogPosition
from api.services import ServicesOf
from domain.errors import NotFound

router = APIRouter(prefix="/api/v1/ops", tags=["operations"])

ProjectionName = Annotated[str, Path(max_length=200)]


def no_projection() -> NotFound:
    """The refusal of a projection that the program does not have."""
    return NotFound("projection_not_found", "there is no projection of this name")


class SubscriptionView(Answer):
    """A consumer of the log: how far it is, how far behind, and how many streams it has set aside.

    One that catches up is read once it is at `ready_at`; one that is not `fed` by this release is
    only kept.
    """

    feed: str
    projection: str
    version: int
    storage: str
    position: int
    head: int
    lag: int | None
    fed: bool
    active: bool
    paused: bool
    building: bool
    ready_at: int | None
    parked: int
    updated_at: Time


class ProjectionState(Answer):
    """What a projection was told to do."""

    projection: str
    status: str


class DeadLetterView(Answer):
    """A job that failed for good, and why."""

    id: UUID
    queue: str
    kind: str
    body: dict[str, str]
    error: str
    attempts: int
    died_at: Time | None


class QuarantinedView(Answer):
    """A stream that a subscription could not apply from `position` on; `retry`: it is going to be
    tried again."""

    id: UUID
    feed: str
    stream_id: UUID
    position: int
    name: str
    error: str
    since: Time
    attempts: int
    retry: bool


# -- projections -----------------------------------------------------------------------------------


@router.get("/projections", response_model=Page[SubscriptionView])
async def list_projections(services: ServicesOf, _: Auditor, head: LogPosition) -> Response:
    """Every consumer of the log."""
    subscriptions = await services.operations.subscriptions()
    return answer(Page[SubscriptionView].model_validate({"items": subscriptions}), position=head)


@router.post("/projections/{name}/rebuild", status_code=202, response_model=ProjectionState)
async def rebuild_projection(name: ProjectionName, services: ServicesOf, _: Auditor) -> Response:
    """Fold a projection anew beside the live one, and switch to it when it has caught up."""
    if not await services.rebuild(name):
        raise no_projection()
    return answer(ProjectionState(projection=name, status="rebuilding"), status=202)


@router.post("/projections/{name}/pause", response_model=ProjectionState)
async def pause_projection(name: ProjectionName, services: ServicesOf, _: Auditor) -> Response:
    """Have a projection stand still."""
    if not await services.operations.pause(name):
        raise no_projection()
    return answer(ProjectionState(projection=name, status="paused"))


@router.post("/projections/{name}/resume", response_model=ProjectionState)
async def resume_projection(name: ProjectionName, services: ServicesOf, _: Auditor) -> Response:
    """Have a projection go on."""
    if not await services.operations.resume(name):
        raise no_projection()
    return answer(ProjectionState(projection=name, status="running"))


# -- dead letters ----------------------------------------------------------------------------------


@router.get("/dead-letters", response_model=Page[DeadLetterView])
async def list_dead_letters(services: ServicesOf, _: Auditor) -> Response:
    """Jobs that failed for good, of all queues."""
    items = [
        DeadLetterView(
            id=letter.job.id,
            queue=letter.queue,
            kind=letter.job.kind,
            body=dict(letter.job.body),
            error=letter.error,
            attempts=letter.attempts,
            died_at=letter.died_at,
        )
        for queue in services.queues
        for letter in await queue.dead_letters()
    ]
    return answer(Page[DeadLetterView](items=items))


@router.post("/dead-letters/{job_id}/redrive", status_code=202)
async def redrive(job_id: UUID, services: ServicesOf, _: Auditor) -> Response:
    """Put a dead job back to work, with fresh attempts."""
    for queue in services.queues:
        if await queue.redrive(job_id):
            return answer(None, status=202)
    raise NotFound("dead_letter_not_found", "there is no dead job of this id")


# -- quarantine ------------------------------------------------------------------------------------


@router.get("/quarantine", response_model=Page[QuarantinedView])
async def list_quarantine(
    services: ServicesOf, _: Auditor, feed: Annotated[str | None, Query(max_length=200)] = None
) -> Response:
    """Streams that subscriptions have set aside."""
    items = await services.operations.quarantine(feed)
    return answer(Page[QuarantinedView].model_validate({"items": items}))


@router.post("/quarantine/{quarantine_id}/retry", status_code=202)
async def retry(quarantine_id: UUID, services: ServicesOf, _: Auditor) -> Response:
    """Have a subscription try a stream again, from the event on that it could not apply."""
    if not await services.operations.retry(quarantine_id):
        raise NotFound("quarantine_not_found", "this stream is not set aside")
    return answer(None, status=202)
