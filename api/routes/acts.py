"""What operators did, for auditors: who, what, why, and to how many things."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.answers import page_answer
from api.auth import Auditor
from api.fields import Answer, Moment, Page, Time
from api.reading import Cursor, Limit, PresentReads
from queries.audit import acts

router = APIRouter(prefix="/api/v1/ops", tags=["operations"])

Pattern = Annotated[
    str | None, Query(max_length=300, description="A name, or a pattern such as `projection.*`.")
]
Name = Annotated[str | None, Query(max_length=300)]
Bound = Annotated[Moment | None, Query()]


class ActView(Answer):
    """An act of an operator. `position` is that of the event that began it, `stream_id` that
    event's stream. `status` is BEGUN while it is under way, then DONE, FAILED, or INTERRUPTED if
    nobody saw it end: it may be done, or not. `affected` counts the things that it was done to.
    Amendments, disclosures, adjustments of wallets and accounts' reopening are here, too, by the
    events that they are."""

    position: int
    stream_id: UUID
    act: str
    target: str | None
    reason: str | None
    actor: str
    status: str
    affected: int | None
    error: str | None
    details: dict[str, str]
    at: Time
    ended_at: Time | None


@router.get("/acts", response_model=Page[ActView])
async def list_acts(
    request: Request,
    reads: PresentReads,
    _: Auditor,
    act: Pattern = None,
    actor: Pattern = None,
    target: Name = None,
    status: Literal["BEGUN", "DONE", "FAILED", "INTERRUPTED"] | None = None,
    since: Bound = None,
    until: Bound = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List what operators did, the newest first. Requires AUDITOR or ADMIN."""
    found = await acts.acts(
        reads,
        act=act,
        actor=actor,
        target=target,
        status=status,
        since=since,
        until=until,
        limit=limit,
        cursor=cursor,
    )
    page = Page[ActView].model_validate(
        {"items": found.value.items, "next_cursor": found.value.next_cursor}
    )
    return page_answer(request, page, found.position)
