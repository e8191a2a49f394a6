"""Deposits, transfers and payments from wallets."""

from datetime import datetime
from uuid import UUID

import msgspec

from queries.paging import Listing, Page, columns_of, newest_first, page
from queries.read_models import Answer, ReadModels


class Transaction(msgspec.Struct, frozen=True):
    """A transaction; `user_id` is who asked for it. `step`, `code` and `refunded_cents` tell of its failure,
    `reversed_cents` what the provider took back of a completed deposit."""

    transaction_id: UUID
    user_id: UUID
    type: str
    status: str
    amount_cents: int
    currency: str
    from_wallet_id: UUID | None
    to_wallet_id: UUID | None
    order_id: UUID | None
    payment_id: UUID | None
    step: str | None
    code: str | None
    refunded_cents: int
    reversed_cents: int
    version: int
    created_at: datetime
    updated_at: datetime


_LISTING = Listing(Transaction, columns_of(Transaction, "t"), "{transactions} t")
_NEWEST = newest_first("t.created_position")


async def transaction(models: ReadModels, transaction_id: UUID) -> Answer[Transaction | None]:
    """One transaction."""
    query = f"SELECT {_LISTING.columns} FROM {_LISTING.source} WHERE t.transaction_id = %(id)s"
    return await models.first(Transaction, query, id=transaction_id)


async def transactions(
    models: ReadModels,
    *,
    user_id: UUID | None = None,
    status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Answer[Page[Transaction]]:
    """Transactions, a person's or everybody's, the newest first. Raises BadCursor."""
    wanted: dict[str, object | None] = {"user_id": user_id, "status": status}
    values = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"t.{name} = %({name})s" for name in values]
    return await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)
