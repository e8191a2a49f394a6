"""Who has an account."""

from datetime import datetime
from uuid import UUID

import msgspec

from queries.paging import Listing, Page, columns_of, newest_first, page
from queries.read_models import Answer, ReadModels


class User(msgspec.Struct, frozen=True):
    """An account. `version` is the stream's, for the ETag; a forgotten person has neither e-mail nor name."""

    user_id: UUID
    email: str | None
    name: str | None
    account_type: str
    region: str
    status: str
    email_verified: bool
    version: int
    created_at: datetime
    updated_at: datetime


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
