"""Deposits, transfers and payments from wallets."""

from datetime import datetime
from uuid import UUID

from eventstore.log import Log
from projections.as_of import shown_as_of
from projections.models.transactions import Transaction, Transactions
from queries.engine.paging import ListQuery, Page, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels

_LISTING = ListQuery(Transaction, "SELECT * FROM @transactions")
_NEWEST = newest_first("created_position")

_TRANSACTION = "SELECT * FROM @transactions WHERE transaction_id = %(id)s"


async def transaction(models: ReadModels, transaction_id: UUID) -> QueryResult[Transaction | None]:
    return await models.first(Transaction, _TRANSACTION, id=transaction_id)


async def transaction_as_of(
    log: Log, transaction_id: UUID, moment: int | datetime
) -> Transaction | None:
    """The transaction as it was at a log position or a time."""
    return await shown_as_of(log, Transactions(), transaction_id, moment)


async def transactions(
    models: ReadModels,
    *,
    user_id: UUID | None = None,
    status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[Transaction]]:
    """Transactions, of one person or of all, the newest first. Raises BadCursor."""
    wanted: dict[str, object | None] = {"user_id": user_id, "status": status}
    values = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"{name} = %({name})s" for name in values]
    return await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)
