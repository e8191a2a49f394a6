"""Notices to a person, and whether they were sent."""

from uuid import UUID

from projections.models.notifications import Notification
from queries.paging import ListQuery, Page, newest_first, page
from queries.read_models import QueryResult, ReadModels

_LISTING = ListQuery(Notification, "SELECT * FROM @notifications")
_NEWEST = newest_first("created_position")

_OF_SOMEBODY = (
    "user_id = %(user)s",
    "NOT EXISTS (SELECT FROM @users u WHERE u.user_id = listed.user_id AND u.status = 'FORGOTTEN')",
)


async def notifications(
    models: ReadModels,
    user_id: UUID,
    *,
    status: str | None = None,
    channel: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[Notification]]:
    """A person's notices, the newest first; none of a forgotten person. Raises BadCursor."""
    conditions, values = [*_OF_SOMEBODY], {"user": user_id}  # type: list[str], dict[str, object]
    for column, wanted in (("status", status), ("channel", channel)):
        if wanted is not None:
            conditions.append(f"{column} = %({column})s")
            values[column] = wanted
    return await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)
