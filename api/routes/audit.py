"""The log itself, for auditors: its events and streams, past states, and the proof that nothing was
changed."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.answers import answer, page_answer
from api.auth import Auditor
from api.fields import Answer, Page
from api.reading import AsOf, Limit, LogEnd
from api.services import ServicesOf
from api.views.events import EventView
from api.views.stops import StopView
from domain.errors import NotFound
from eventstore.chain import ChainVerifier, Fault

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

Position = Annotated[int, Query(ge=0, lt=2**63)]
Name = Annotated[str | None, Query(max_length=200)]
After = Annotated[
    int | None, Query(ge=0, lt=2**63, description="`next_cursor` of the previous page.")
]


def no_stream() -> NotFound:
    """The error for a stream that is not in the log."""
    return NotFound("stream_not_found", "there is no such stream")


class StateView(Answer):
    """The folded state of a stream at a moment, with its version and the position of its last event
    by then. `stopped_by` is an event that cannot be applied: the state is that before it."""

    stream_id: UUID
    kind: str
    version: int
    position: int
    state: dict[str, Any]
    stopped_by: StopView | None


class FaultView(Answer):
    position: int
    reason: str


class Verification(Answer):
    """Whether the hash chain is intact from the first event to `verified_upto`; otherwise its first
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
    head: LogEnd,
    as_of: AsOf,
    stream_id: UUID | None = None,
    name: Name = None,
    actor: Name = None,
    correlation_id: UUID | None = None,
    after: Position = 0,
    limit: Limit = 100,
    cursor: After = None,
) -> Response:
    """List the events after a position, in order. Requires AUDITOR or ADMIN. A page may be empty
    without being the last: only a null `next_cursor` marks the last one."""
    trail = await services.audit.events(
        stream_id=stream_id,
        name=name,
        actor=actor,
        correlation_id=correlation_id,
        after=after if cursor is None else cursor,
        upto=as_of,
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
    head: LogEnd,
    as_of: AsOf,
    limit: Limit = 200,
    cursor: After = None,
) -> Response:
    """List the events of a stream, in order. Requires AUDITOR or ADMIN."""
    events = await services.audit.stream(
        stream_id, after_version=cursor or 0, upto=as_of, limit=limit
    )
    if not events and not cursor:
        raise no_stream()
    following = str(events[-1].version) if len(events) == limit else None
    return page_answer(
        request, Page[EventView].model_validate({"items": events, "next_cursor": following}), head
    )


@router.get("/streams/{stream_id}/state", response_model=StateView)
async def get_state(stream_id: UUID, services: ServicesOf, _: Auditor, head: LogEnd) -> Response:
    """Return the state of a stream now, or with `as_of` at a past moment. Requires AUDITOR or
    ADMIN."""
    state = await services.audit.state(stream_id, head)
    if state is None:
        raise no_stream()
    return answer(StateView.model_validate(state), position=head)


@router.get("/verify", response_model=Verification)
async def verify(services: ServicesOf, _: Auditor, head: LogEnd) -> Response:
    """Verify the hash chain from the first event to the last. Requires AUDITOR or ADMIN."""
    verifier, fault = ChainVerifier(), None
    async for reached in services.log.verify(verifier, upto=head):
        fault = reached if isinstance(reached, Fault) else None
    body = Verification(
        valid=fault is None,
        verified_upto=verifier.position,
        hash=verifier.hash.hex(),
        fault=None if fault is None else FaultView.model_validate(fault),
    )
    return answer(body, position=head)
