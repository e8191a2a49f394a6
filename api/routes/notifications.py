"""The notifications that a person got by mail or push."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.answers import page_answer
from api.auth import SignedIn
from api.fields import Answer, Page, Time
from api.reading import Cursor, Limit, Reads
from domain.notification_texts import Channel
from domain.notifications import Status
from queries import notifications as query

router = APIRouter(prefix="/api/v1", tags=["notifications"])


class NotificationView(Answer):
    """A notification and its delivery: REQUESTED, SENT (with the transport's `provider_ref`) or
    FAILED (with `code`).

    `attempts` counts the attempts until it failed for good. A failed one may still be sent later.
    """

    notification_id: UUID
    channel: str
    template: str
    cause_event_id: UUID
    status: str
    attempts: int
    code: str | None
    provider_ref: str | None
    at: Time
    settled_at: Time | None


@router.get("/notifications", response_model=Page[NotificationView])
async def list_notifications(
    request: Request,
    reads: Reads,
    caller: SignedIn,
    status: Annotated[Status | None, Query()] = None,
    channel: Annotated[Channel | None, Query()] = None,
    user_id: Annotated[
        UUID | None, Query(description="Another person's notifications. Requires ADMIN.")
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List the caller's notifications, newest first, without their text."""
    owner = user_id or caller.user_id
    assert owner is not None
    caller.must_act_for(owner, "notifications")
    page = await query.notifications(
        reads, owner, status=status, channel=channel, limit=limit, cursor=cursor
    )
    return page_answer(request, Page[NotificationView].model_validate(page.value), page.position)
