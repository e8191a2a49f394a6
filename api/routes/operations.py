"""For operators: projections, dead letters, quarantine."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.auth import Admin, Auditor
from api.fields import REASON, Answer, Body, Page, Reason, Time
from api.reading import LogPosition
from api.services import ServicesOf
from commands.dead_letters import discard
from domain.errors import NotFound

router = APIRouter(prefix="/api/v1/ops", tags=["operations"])

ALL = 1_000_000
"""A limit above any number of dead letters."""

ProjectionName = Annotated[str, Path(max_length=200)]


def no_projection() -> NotFound:
    """The error for a projection that the program does not have."""
    return NotFound("projection_not_found", "there is no projection of this name")


class Reasoning(Body):
    """Why something is done."""

    reason: Reason | None = Field(None, description=REASON)


class DiscardBody(Body):
    """Why something is given up."""

    reason: Reason = Field(description=REASON)


def reason_in(body: Reasoning | None) -> str | None:
    """The reason that was given, if one was."""
    return None if body is None else body.reason


class SubscriptionView(Answer):
    """A consumer of the log: its position, how far it is behind (`lag`), and how many streams it
    has in quarantine (`parked`).

    A new version that is catching up is read once it has reached `ready_at`. One that is not `fed`
    belongs to another release, and is only kept.
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
    """The state that a projection was put into."""

    projection: str
    status: str


class DeadLetterView(Answer):
    """A job that exhausted its attempts, and its last error."""

    id: UUID
    queue: str
    kind: str
    body: dict[str, str]
    error: str
    attempts: int
    died_at: Time | None


class QuarantinedView(Answer):
    """A stream in quarantine: the subscription could not apply its event at `position`, and skips
    it from there on. With `retry`, another attempt is due."""

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
    """List all consumers of the log. Requires AUDITOR or ADMIN."""
    subscriptions = await services.operations.subscriptions()
    return answer(Page[SubscriptionView].model_validate({"items": subscriptions}), position=head)


@router.post("/projections/{name}/rebuild", status_code=202, response_model=ProjectionState)
async def rebuild_projection(
    name: ProjectionName, services: ServicesOf, caller: Auditor, body: Reasoning | None = None
) -> Response:
    """Rebuild a projection beside the live one, and switch to it once it has caught up. Requires
    AUDITOR or ADMIN."""
    position = await services.rebuild(name, caller, reason_in(body))
    if position is None:
        raise no_projection()
    return answer(
        ProjectionState(projection=name, status="rebuilding"), status=202, position=position
    )


@router.post("/projections/{name}/pause", response_model=ProjectionState)
async def pause_projection(
    name: ProjectionName, services: ServicesOf, caller: Auditor, body: Reasoning | None = None
) -> Response:
    """Pause a projection. Requires AUDITOR or ADMIN."""
    async with services.commands.acts.recorded(
        caller, "projection.pause", target=name, reason=reason_in(body)
    ) as act:
        if not await services.operations.pause(name):
            raise no_projection()
        act.affected = 1
    return answer(ProjectionState(projection=name, status="paused"), position=act.position)


@router.post("/projections/{name}/resume", response_model=ProjectionState)
async def resume_projection(
    name: ProjectionName, services: ServicesOf, caller: Auditor, body: Reasoning | None = None
) -> Response:
    """Resume a paused projection. Requires AUDITOR or ADMIN."""
    async with services.commands.acts.recorded(
        caller, "projection.resume", target=name, reason=reason_in(body)
    ) as act:
        if not await services.operations.resume(name):
            raise no_projection()
        act.affected = 1
    return answer(ProjectionState(projection=name, status="running"), position=act.position)


# -- dead letters ----------------------------------------------------------------------------------


@router.get("/dead-letters", response_model=Page[DeadLetterView])
async def list_dead_letters(services: ServicesOf, _: Auditor) -> Response:
    """List the jobs of all queues that exhausted their attempts. Requires AUDITOR or ADMIN."""
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
async def redrive(
    job_id: UUID, services: ServicesOf, caller: Auditor, body: Reasoning | None = None
) -> Response:
    """Put a dead job back into its queue, with a fresh count of attempts. Requires AUDITOR or
    ADMIN."""
    async with services.commands.acts.recorded(
        caller, "dead_letter.redrive", target=str(job_id), reason=reason_in(body)
    ) as act:
        for queue in services.queues:
            if await queue.redrive(job_id):
                act.affected = 1
                break
        else:
            raise NotFound("dead_letter_not_found", "there is no dead job of this id")
    return answer(None, status=202, position=act.position)


@router.post("/dead-letters/{job_id}/discard", status_code=204)
async def discard_dead_letter(
    job_id: UUID, body: DiscardBody, services: ServicesOf, caller: Admin
) -> Response:
    """Delete a dead job: it will not be done. The selection tells what waits for it. The log keeps
    what it was about. Requires ADMIN.

    Errors: 404 `dead_letter_not_found`.
    """
    acts, queues = services.commands.acts, services.queues
    letters = [
        each for queue in queues for each in await queue.dead_letters(ALL) if each.job.id == job_id
    ]
    if not await discard(acts, caller, body.reason, queues, letters):
        raise NotFound("dead_letter_not_found", "there is no dead job of this id")
    return answer(None, status=204)


# -- quarantine ------------------------------------------------------------------------------------


@router.get("/quarantine", response_model=Page[QuarantinedView])
async def list_quarantine(
    services: ServicesOf, _: Auditor, feed: Annotated[str | None, Query(max_length=200)] = None
) -> Response:
    """List the streams in quarantine. Requires AUDITOR or ADMIN."""
    items = await services.operations.quarantine(feed)
    return answer(Page[QuarantinedView].model_validate({"items": items}))


@router.post("/quarantine/{quarantine_id}/retry", status_code=202)
async def retry(
    quarantine_id: UUID, services: ServicesOf, caller: Auditor, body: Reasoning | None = None
) -> Response:
    """Request another attempt at a stream in quarantine, from the event on that failed. Requires
    AUDITOR or ADMIN."""
    async with services.commands.acts.recorded(
        caller, "quarantine.retry", target=str(quarantine_id), reason=reason_in(body)
    ) as act:
        if not await services.operations.retry(quarantine_id):
            raise NotFound("quarantine_not_found", "this stream is not in quarantine")
        act.affected = 1
    return answer(None, status=202, position=act.position)
