"""Notices to a person, and whether they were sent."""

from collections.abc import Sequence
from uuid import UUID

from projections.models.notifications import Notification
from queries.engine.paging import ListQuery, Page, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels

_LISTING = ListQuery(Notification, "SELECT * FROM @notifications")
_NEWEST = newest_first("created_position")

_OF_SOMEBODY = (
    "user_id = %(user)s",
    "NOT EXISTS (SELECT FROM @users u WHERE u.user_id = listed.user_id AND u.status = 'FORGOTTEN')",
)

_OF_THE_FORGOTTEN = """
SELECT n.* FROM @notifications n JOIN @users u ON u.user_id = n.user_id
WHERE n.notification_id = ANY (%(ids)s) AND u.status = 'FORGOTTEN'
"""


async def of_the_forgotten(models: ReadModels, ids: Sequence[UUID]) -> list[UUID]:
    """Those of these notifications that went to people who are forgotten."""
    found = (await models.rows(Notification, _OF_THE_FORGOTTEN, ids=list(ids))).value
    return [notification.notification_id for notification in found]


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
