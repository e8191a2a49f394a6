"""The log itself, for auditors: its events, its streams, what a stream amounted to, and the proof
that none changed."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.answers import answer, page_answer
from api.auth import Auditor
from api.fields import Answer, Page, Time
from api.reading import AsOf, Limit, LogPosition
from api.services import ServicesOf
from domain.errors import NotFound
from eventstore.chain import Fault, Verifier

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

Position = Annotated[int, Query(ge=0, lt=2**63)]
Name = Annotated[str | None, Query(max_length=200)]
After = Annotated[
    int | None, Query(ge=0, lt=2**63, description="`next_cursor` of the page before.")
]


def no_stream() -> NotFound:
    """The refusal of a stream that is not in the log."""
    return NotFound("stream_not_found", "there is no such stream")


class EventView(Answer):
    """An event with its envelope; what is personal stays closed. `occurred_at` is when it was
    decided, by the clock of the process that decided; `recorded_at` is the log's time, which never
    runs backwards."""

    position: int
    event_id: UUID
    stream_id: UUID
    version: int
    name: str
    recorded_at: Time
    occurred_at: Time
    actor: str
    correlation_id: UUID | None
    causation_id: UUID | None
    traceparent: str | None
    payload: dict[str, Any]


class StateView(Answer):
    """What a stream amounted to: its version and the position of its last event by then, and the
    folded state."""

    stream_id: UUID
    kind: str
    version: int
    position: int
    state: dict[str, Any]


class FaultView(Answer):
    position: int
    reason: str


class Verification(Answer):
    """Whether the hash chain holds from the first event to `verified_upto`; else the first
    fault."""

    valid: bool
    verified_upto: int
    hash: str
    fault: FaultView | None


@router.get("/events", response_model=Page[EventView])
async def list_events(
    request: Request,
    services: ServicesOf,
    _: Auditor,
    head: LogPosition,
    stream_id: UUID | None = None,
    name: Name = None,
    actor: Name = None,
    correlation_id: UUID | None = None,
    after: Position = 0,
    limit: Limit = 100,
    cursor: After = None,
) -> Response:
    """Events after a position, in order. A page may be empty and yet not the last: `next_cursor`
    tells."""
    trail = await services.audit.events(
        stream_id=stream_id,
        name=name,
        actor=actor,
        correlation_id=correlation_id,
        after=after if cursor is None else cursor,
        limit=limit,
    )
    following = None if trail.next_after is None else str(trail.next_after)
    return page_answer(
        request,
        Page[EventView].model_validate({"items": trail.items, "next_cursor": following}),
        head,
    )


@router.get("/streams/{stream_id}", response_model=Page[EventView])
async def get_stream(
    stream_id: UUID,
    request: Request,
    services: ServicesOf,
    _: Auditor,
    head: LogPosition,
    limit: Limit = 200,
    cursor: After = None,
) -> Response:
    """A stream's events, in order."""
    events = await services.audit.stream(stream_id, after_version=cursor or 0, limit=limit)
    if not events and not cursor:
        raise no_stream()
    following = str(events[-1].version) if len(events) == limit else None
    return page_answer(
        request, Page[EventView].model_validate({"items": events, "next_cursor": following}), head
    )


@router.get("/streams/{stream_id}/state", response_model=StateView)
async def get_state(
    stream_id: UUID, services: ServicesOf, _: Auditor, head: LogPosition, as_of: AsOf
) -> Response:
    """What a stream amounted to at a moment, or amounts to now."""
    position = head if as_of is None else await services.audit.position_at(as_of)
    state = await services.audit.state(stream_id, position)
    if state is None:
        raise no_stream()
    return answer(StateView.model_validate(state), position=position)


@router.get("/verify", response_model=Verification)
async def verify(services: ServicesOf, _: Auditor, head: LogPosition) -> Response:
    """Walk the hash chain from the first event to the last."""
    verifier, fault = Verifier(), None
    async for reached in services.log.verify(verifier, upto=head):
        fault = reached if isinstance(reached, Fault) else None
    body = Verification(
        valid=fault is None,
        verified_upto=verifier.position,
        hash=verifier.hash.hex(),
        fault=None if fault is None else FaultView.model_validate(fault),
    )
    return answer(body, position=head)
