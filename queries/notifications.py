"""Which notices somebody got, and whether they arrived."""

from datetime import datetime
from uuid import UUID

import msgspec

from queries.paging import Listing, Page, columns_of, newest_first, page
from queries.read_models import Answer, ReadModels


class Notification(msgspec.Struct, frozen=True):
    """A notice. `status` is REQUESTED, SENT or FAILED (with `code`); `at` is when it was asked for, `settled_at` when
    it was sent or given up."""

    notification_id: UUID
    channel: str
    template: str
    cause_event_id: UUID
    status: str
    attempts: int
    code: str | None
    at: datetime
    settled_at: datetime | None


_LISTING = Listing(Notification, columns_of(Notification, "n"), "{notifications} n")
_NEWEST = newest_first("n.created_position")


async def notifications(
    models: ReadModels, user_id: UUID, *, limit: int = 50, cursor: str | None = None
) -> Answer[Page[Notification]]:
    """A person's notices, the newest first. Raises BadCursor."""
    values: dict[str, object] = {"user": user_id}
    return await page(models, _LISTING, _NEWEST, ["n.user_id = %(user)s"], values, limit=limit, cursor=cursor)
