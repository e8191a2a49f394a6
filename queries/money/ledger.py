"""The ledger: accounts, their entries, and the trial balance."""

from datetime import datetime
from uuid import UUID

import msgspec

from projections.models.ledger import LedgerEntry
from queries.engine.paging import Bigint, ListQuery, Page, SortOrder, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels


class LedgerAccount(msgspec.Struct, frozen=True):
    """An account in one currency (None when nothing was posted yet); `balance_cents` is credits
    minus debits."""

    account_id: str
    currency: str | None
    debits_cents: int
    credits_cents: int
    balance_cents: int
    opened_at: datetime
    updated_at: datetime


class PostedEntry(msgspec.Struct, frozen=True):
    """An entry of a ledger transaction."""

    account_id: str
    direction: str
    amount_cents: int
    currency: str


class LedgerTransaction(msgspec.Struct, frozen=True):
    """The entries that the event `cause_event_id` caused, in order, posted at `position`."""

    ledger_transaction_id: UUID
    cause_event_id: UUID
    order_id: UUID | None
    payment_id: UUID | None
    transaction_id: UUID | None
    position: int
    at: datetime
    entries: list[PostedEntry]


class Total(msgspec.Struct, frozen=True):
    """All postings in a currency. Their balance must be 0."""

    currency: str
    debits_cents: int
    credits_cents: int
    balance_cents: int


_ACCOUNTS = ListQuery(
    LedgerAccount,
    """
    SELECT a.account_id, nullif(a.currency, '')
        AS currency, a.debits_cents, a.credits_cents, a.balance_cents,
        a.opened_at, a.updated_at, a.currency AS kept_currency
    FROM @ledger_accounts a
    WHERE a.currency <> '' OR (
        SELECT true FROM @ledger_accounts posted WHERE posted.account_id = a.account_id
            AND posted.currency <> '' LIMIT 1
    ) IS NULL""",
)
"""The row without a currency stands for an opened account only until something is posted to it. (By
NOT EXISTS a page would read all accounts.)"""

_BY_ID = SortOrder("account", ("account_id", "kept_currency"), tuple[str, str])

_ENTRIES = ListQuery(LedgerEntry, "SELECT * FROM @ledger_entries")
_LATEST = SortOrder("posted", ("position", "number"), tuple[Bigint, Bigint], descending=True)

_ACCOUNT = f"""
SELECT * FROM ({_ACCOUNTS.query}) AS shown WHERE account_id = %(id)s
ORDER BY account_id, kept_currency
"""

_TRANSACTIONS = ListQuery(
    LedgerTransaction,
    """
SELECT e.ledger_transaction_id, e.cause_event_id, e.order_id, e.payment_id, e.transaction_id,
    e.position, e.at, (
        SELECT json_agg(posted ORDER BY posted.number) FROM @ledger_entries posted
        WHERE posted.ledger_transaction_id = e.ledger_transaction_id
    ) AS entries
FROM @ledger_entries e WHERE e.number = 0""",
)
_POSTED_LAST = newest_first("position")
_LEDGER_TRANSACTION = f"{_TRANSACTIONS.query} AND e.ledger_transaction_id = %(id)s"

_TRIAL_BALANCE = """
SELECT currency,
    sum(debits_cents)::bigint AS debits_cents,
    sum(credits_cents)::bigint AS credits_cents,
    sum(balance_cents)::bigint AS balance_cents
FROM @ledger_accounts WHERE currency <> '' GROUP BY currency ORDER BY currency
"""

_TRIAL_BALANCE_AS_OF = """
SELECT currency, debits_cents, credits_cents, credits_cents - debits_cents AS balance_cents
FROM (
    SELECT currency,
        coalesce(sum(amount_cents) FILTER (WHERE direction = 'debit'), 0)::bigint AS debits_cents,
        coalesce(sum(amount_cents) FILTER (WHERE direction = 'credit'), 0)::bigint AS credits_cents
    FROM @ledger_entries WHERE position <= %(position)s GROUP BY currency
) AS posted
ORDER BY currency
"""


async def accounts(
    models: ReadModels, *, limit: int = 50, cursor: str | None = None
) -> QueryResult[Page[LedgerAccount]]:
    """All accounts, one row per currency. Raises BadCursor."""
    return await page(models, _ACCOUNTS, _BY_ID, [], {}, limit=limit, cursor=cursor)


async def account(models: ReadModels, account_id: str) -> QueryResult[list[LedgerAccount]]:
    """An account in each of its currencies; empty when it does not exist."""
    return await models.rows(LedgerAccount, _ACCOUNT, id=account_id)


async def entries(
    models: ReadModels,
    account_id: str,
    *,
    currency: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[LedgerEntry]]:
    """An account's entries, in all currencies or in one, the latest first. Raises BadCursor."""
    wanted: dict[str, object | None] = {"account_id": account_id, "currency": currency}
    values = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"{name} = %({name})s" for name in values]
    return await page(models, _ENTRIES, _LATEST, conditions, values, limit=limit, cursor=cursor)


async def ledger_transactions(
    models: ReadModels, *, limit: int = 50, cursor: str | None = None
) -> QueryResult[Page[LedgerTransaction]]:
    """All ledger transactions, the latest first. Raises BadCursor."""
    return await page(models, _TRANSACTIONS, _POSTED_LAST, [], {}, limit=limit, cursor=cursor)


async def ledger_transaction(
    models: ReadModels, ledger_transaction_id: UUID
) -> QueryResult[LedgerTransaction | None]:
    """A ledger transaction; None when it does not exist."""
    return await models.first(LedgerTransaction, _LEDGER_TRANSACTION, id=ledger_transaction_id)


async def trial_balance(models: ReadModels) -> QueryResult[list[Total]]:
    """The totals of all accounts, by currency."""
    return await models.rows(Total, _TRIAL_BALANCE)


async def trial_balance_as_of(models: ReadModels, position: int) -> QueryResult[list[Total]]:
    """The trial balance at a position of the log: entries never change, so it is the sum of those
    up to there.

    Raises ReadModelBehind.
    """
    found = await models.reaching(position).rows(Total, _TRIAL_BALANCE_AS_OF, position=position)
    return QueryResult(found.value, position)
