"""Wallets and their statements."""

from datetime import datetime
from uuid import UUID

import msgspec

from eventstore.log import Log
from projections.as_of import row_as_of
from projections.models.wallets import Wallets
from queries.paging import Listing, Page, columns_of, newest_first, page
from queries.read_models import Answer, ReadModels


class Wallet(msgspec.Struct, frozen=True):
    """A person's money in one currency. `status` is ACTIVE, INACTIVE, or FROZEN while `owed_cents` are owed; `version`
    is the stream's."""

    wallet_id: UUID
    user_id: UUID
    currency: str
    balance_cents: int
    owed_cents: int
    status: str
    version: int
    created_at: datetime
    updated_at: datetime


class Movement(msgspec.Struct, frozen=True):
    """A line of a statement. `direction` is credit (in) or debit (out); `balance_cents` is the balance after it."""

    wallet_id: UUID
    position: int
    direction: str
    amount_cents: int
    currency: str
    balance_cents: int
    transaction_id: UUID | None
    payment_id: UUID | None
    reason: str | None
    at: datetime


_COLUMNS = columns_of(Wallet, "w")
_LISTING = Listing(Wallet, _COLUMNS, "{wallets} w")
_NEWEST_WALLET = newest_first("w.created_position")
_STATEMENT = Listing(Movement, columns_of(Movement, "m"), "{wallet_movements} m")
_NEWEST = newest_first("m.position")


async def wallet(models: ReadModels, wallet_id: UUID) -> Answer[Wallet | None]:
    """One wallet."""
    query = f"SELECT {_COLUMNS} FROM {{wallets}} w WHERE w.wallet_id = %(id)s"
    return await models.first(Wallet, query, id=wallet_id)


async def wallets_of(models: ReadModels, user_id: UUID) -> Answer[list[Wallet]]:
    """All of a person's wallets, by currency: there is one of each at most."""
    query = f"SELECT {_COLUMNS} FROM {{wallets}} w WHERE w.user_id = %(user)s ORDER BY w.currency"
    return await models.rows(Wallet, query, user=user_id)


async def wallets(
    models: ReadModels,
    *,
    user_id: UUID | None = None,
    status: str | None = None,
    currency: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Answer[Page[Wallet]]:
    """Everybody's wallets, the newest first. Raises BadCursor."""
    wanted: dict[str, object | None] = {"user_id": user_id, "status": status, "currency": currency}
    values = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"w.{name} = %({name})s" for name in values]
    return await page(models, _LISTING, _NEWEST_WALLET, conditions, values, limit=limit, cursor=cursor)


async def wallet_in(models: ReadModels, user_id: UUID, currency: str) -> Answer[Wallet | None]:
    """A person's wallet in a currency."""
    query = f"SELECT {_COLUMNS} FROM {{wallets}} w WHERE w.user_id = %(user)s AND w.currency = %(currency)s"
    return await models.first(Wallet, query, user=user_id, currency=currency)


async def wallet_as_of(log: Log, wallet_id: UUID, moment: int | datetime) -> Wallet | None:
    """The wallet as it was at a log position or a time."""
    row = await row_as_of(log, Wallets(), wallet_id, moment)
    return None if row is None else msgspec.convert(row, Wallet, from_attributes=True)


async def statement(
    models: ReadModels, wallet_id: UUID, *, limit: int = 50, cursor: str | None = None
) -> Answer[Page[Movement]]:
    """What went in and out of a wallet, the latest first. Raises BadCursor."""
    conditions = ["m.wallet_id = %(wallet)s"]
    return await page(models, _STATEMENT, _NEWEST, conditions, {"wallet": wallet_id}, limit=limit, cursor=cursor)
