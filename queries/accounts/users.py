"""Accounts."""

from datetime import datetime
from uuid import UUID

from eventstore.log import Log
from projections.as_of import shown_as_of
from projections.models.users import User, Users
from queries.engine.paging import ListQuery, Page, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels

_LISTING = ListQuery(User, "SELECT * FROM @users")
_NEWEST = newest_first("created_position")

_USER = "SELECT * FROM @users WHERE user_id = %(id)s"


async def user(models: ReadModels, user_id: UUID) -> QueryResult[User | None]:
    return await models.first(User, _USER, id=user_id)


async def user_as_of(log: Log, user_id: UUID, moment: int | datetime) -> User | None:
    """The account as it was at a log position or a time."""
    return await shown_as_of(log, Users(), user_id, moment)


async def users(
    models: ReadModels,
    *,
    mailbox: str | None = None,
    account_type: str | None = None,
    status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[User]]:
    """Accounts, the newest first; `mailbox` is the key of an address. Raises BadCursor."""
    wanted = {"mailbox": mailbox, "account_type": account_type, "status": status}
    values: dict[str, object] = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"{name} = %({name})s" for name in values]
    return await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)
