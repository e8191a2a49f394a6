"""Where a flow is, and what it waits for, for operators."""

from collections.abc import Mapping, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import AliasPath, Field
from starlette.responses import Response

from api.answers import answer
from api.auth import Auditor
from api.fields import Answer, Time
from api.reading import LogPosition
from api.services import ServicesOf
from domain.errors import NotFound
from queries.trace.flow import NothingToTrace
from queries.trace.tracing import Tracing

router = APIRouter(prefix="/api/v1/ops", tags=["operations"])


class TracedStreamView(Answer):
    stream_id: UUID
    kind: str
    version: int
    status: str | None


class TracedEventView(Answer):
    position: int
    event_id: UUID
    stream_id: UUID
    version: int
    name: str
    occurred_at: Time
    actor: str
    correlation_id: UUID | None
    causation_id: UUID | None


class ConsumerView(Answer):
    """A consumer of the log: whether it has passed the flow's last event."""

    feed: str
    position: int
    passed: bool
    paused: bool
    updated_at: Time


class HeldView(Answer):
    """A stream that a consumer leaves out from a position on, as an event cannot be applied."""

    id: UUID
    feed: str
    stream_id: UUID
    position: int
    name: str
    error: str
    attempts: int
    retry: bool


class RefusalView(Answer):
    """A reaction that a rule refused: an outcome, which is not tried again."""

    feed: str
    position: int
    stream_id: UUID
    code: str
    detail: str
    at: Time


class JobView(Answer):
    """A job that waits until `due_at`, is held by a worker, or is dead."""

    id: UUID = Field(validation_alias=AliasPath("job", "id"))
    kind: str = Field(validation_alias=AliasPath("job", "kind"))
    queue: str
    state: str
    attempts: int
    max_attempts: int
    due_at: Time | None
    error: str


class DeadlineView(Answer):
    subject_id: UUID
    kind: str
    due_at: Time


class TraceView(Answer):
    """A flow. `waits_for` says in plain words what it waits for; it is empty when the flow is done.
    RabbitMQ does not show waiting jobs: `unseen_jobs` counts them by queue. `unanswered` names
    queues that could not be asked. `left_out` counts further events, which were too many."""

    asked: str
    kind: str
    requests: Sequence[UUID]
    streams: Sequence[TracedStreamView]
    events: Sequence[TracedEventView]
    left_out: int
    consumers: Sequence[ConsumerView]
    quarantine: Sequence[HeldView]
    refusals: Sequence[RefusalView]
    jobs: Sequence[JobView]
    unseen_jobs: Mapping[str, int]
    unanswered: Mapping[str, str]
    deadlines: Sequence[DeadlineView]
    waits_for: Sequence[str]


@router.get("/trace/{id}", response_model=TraceView)
async def trace(
    id: Annotated[
        str,
        Path(
            max_length=100,
            description="A position of the log, or the id of a stream (order, payment, shipment,"
            " transaction, …), an event, a request (correlation id) or a trace.",
        ),
    ],
    services: ServicesOf,
    _: Auditor,
    head: LogPosition,
) -> Response:
    """Follow what a request set in motion through log, consumers, quarantine, jobs and deadlines,
    and say what it waits for. Requires AUDITOR or ADMIN."""
    tracing = Tracing(
        services.log, services.reads, services.operations, services.audit, services.queues
    )
    try:
        found = await tracing.trace(id)
    except NothingToTrace as error:
        raise NotFound("nothing_to_trace", str(error)) from error
    return answer(TraceView.model_validate(found), position=head)
