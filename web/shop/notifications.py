"""What the shop told the visitor, by mail and push."""

from datetime import datetime

import msgspec
from starlette.responses import Response

from web.api_client import Listed
from web.routing import Router
from web.visit import Visit

router = Router()

PER_PAGE = 20


class Notification(msgspec.Struct, frozen=True):
    """A message; without `subject` and `text` once its data was destroyed."""

    channel: str
    status: str
    at: datetime
    subject: str | None = None
    text: str | None = None


@router.get("/notifications", signed_in=True)
async def show_notifications(visit: Visit) -> Response:
    """The messages, newest first."""
    found = await visit.api.get(
        "/api/v1/notifications",
        Listed[Notification],
        limit=PER_PAGE,
        cursor=visit.query("cursor") or None,
    )
    return visit.page("shop/notifications.html", found=found)
