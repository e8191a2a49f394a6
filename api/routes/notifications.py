"""The notifications that a person got by mail or push."""

import asyncio
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.answers import page_answer
from api.auth import SignedIn
from api.fields import Answer, Page, Time
from api.reading import Cursor, Limit, Reads
from api.services import Services, ServicesOf
from commands.aggregates import NOTIFICATION
from commands.caller import Caller
from domain.errors import Invalid
from domain.notification_texts import Channel, for_account, render
from domain.notifications import Status
from kit.forgotten import ENCRYPTED
from queries.accounts import notifications as query

router = APIRouter(prefix="/api/v1", tags=["notifications"])


class NotificationView(Answer):
    """A notification and its delivery: REQUESTED, SENT (with the transport's `provider_ref`) or
    FAILED (with `code`).

    `attempts` counts the attempts until it failed for good. A failed one may still be sent later.
    `subject` and `text` are those of the message, without the codes and links that only its address
    may get. They are null once their data was destroyed.
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
    subject: str | None = None
    text: str | None = None


@router.get("/notifications", response_model=Page[NotificationView])
async def list_notifications(
    request: Request,
    services: ServicesOf,
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
    """List the caller's notifications, newest first."""
    owner = user_id or caller.user_id
    assert owner is not None
    caller.must_act_for(owner, "notifications")
    page = await query.notifications(
        reads, owner, status=status, channel=channel, limit=limit, cursor=cursor
    )
    view = Page[NotificationView].model_validate(page.value)
    texts = await asyncio.gather(
        *(_text(services, caller, each.notification_id) for each in view.items)
    )
    for each, text in zip(view.items, texts, strict=True):
        each.subject, each.text = text
    return page_answer(request, view, page.position)


async def _text(
    services: Services, caller: Caller, notification_id: UUID
) -> tuple[str, str] | tuple[None, None]:
    """Subject and text, which no read model has, as they are personal."""
    if caller.audits:
        return ENCRYPTED, ENCRYPTED
    asked = await services.repository.rehydrate(NOTIFICATION, notification_id)
    if asked is None or asked.params is None:
        return None, None
    try:
        return render(asked.template, for_account(asked.params), asked.channel)
    except Invalid:  # of a template that this release does not have
        return None, None
