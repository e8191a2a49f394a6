"""Who has an account."""

from uuid import UUID

from projections.models.users import User
from queries.paging import Listing, Page, columns_of, newest_first, page
from queries.read_models import Answer, ReadModels

_COLUMNS = columns_of(User, "u")
_LISTING = Listing(User, _COLUMNS, "{users} u")
_NEWEST = newest_first("u.created_position")


async def user(models: ReadModels, user_id: UUID) -> Answer[User | None]:
    """One account."""
    return await models.first(User, f"SELECT {_COLUMNS} FROM {{users}} u WHERE u.user_id = %(id)s", id=user_id)


async def users(
    models: ReadModels,
    *,
    mailbox: str | None = None,
    account_type: str | None = None,
    status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Answer[Page[User]]:
    """Accounts, the newest first; `mailbox` is the key of an address. Raises BadCursor."""
    wanted = {"mailbox": mailbox, "account_type": account_type, "status": status}
    values: dict[str, object] = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"u.{name} = %({name})s" for name in values]
    return await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)
