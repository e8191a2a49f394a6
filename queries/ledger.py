"""The ledger: accounts, what was posted to them, and whether it all adds up."""

from datetime import datetime
from uuid import UUID

import msgspec

from projections.models.ledger import NO_CURRENCY, LedgerEntry
from queries.paging import Bigint, Listing, Order, Page, columns_of, page
from queries.read_models import Answer, ReadModels


class Account(msgspec.Struct, frozen=True):
    """An account in one currency, None where nothing was posted yet; `balance_cents` is credits minus debits."""

    account_id: str
    currency: str | None
    debits_cents: int
    credits_cents: int
    balance_cents: int
    opened_at: datetime
    updated_at: datetime


class Total(msgspec.Struct, frozen=True):
    """All that was posted in a currency; the balance of a ledger that adds up is 0."""

    currency: str
    debits_cents: int
    credits_cents: int
    balance_cents: int


_ACCOUNTS = Listing(
    Account,
    f"a.account_id, nullif(a.currency, '{NO_CURRENCY}') AS currency, a.debits_cents, a.credits_cents, a.balance_cents,"
    " a.opened_at, a.updated_at",
    "{ledger_accounts} a",
)
_BY_ID = Order("account", ("a.account_id", "a.currency"), tuple[str, str])

# The row of an account's opening stands for it only until something was posted.
_SHOWN = (
    f"(a.currency <> '{NO_CURRENCY}' OR NOT EXISTS (SELECT FROM {{ledger_accounts}} p"
    f" WHERE p.account_id = a.account_id AND p.currency <> '{NO_CURRENCY}'))"
)

_ENTRIES = Listing(LedgerEntry, columns_of(LedgerEntry, "e"), "{ledger_entries} e")
_LATEST = Order("posted", ("e.position", "e.number"), tuple[Bigint, Bigint], descending=True)


async def accounts(models: ReadModels, *, limit: int = 50, cursor: str | None = None) -> Answer[Page[Account]]:
    """All accounts, a row for each of their currencies. Raises BadCursor."""
    return await page(models, _ACCOUNTS, _BY_ID, [_SHOWN], {}, limit=limit, cursor=cursor)


async def account(models: ReadModels, account_id: str) -> Answer[list[Account]]:
    """An account in each of its currencies; none when there is no such account."""
    query = (
        f"SELECT {_ACCOUNTS.columns} FROM {_ACCOUNTS.source} WHERE a.account_id = %(id)s AND {_SHOWN}"
        " ORDER BY a.account_id, a.currency"
    )
    return await models.rows(Account, query, id=account_id)


async def entries(
    models: ReadModels, account_id: str, *, currency: str | None = None, limit: int = 50, cursor: str | None = None
) -> Answer[Page[LedgerEntry]]:
    """What was posted to an account, in all currencies or in one, the latest first. Raises BadCursor."""
    wanted: dict[str, object | None] = {"account_id": account_id, "currency": currency}
    values = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"e.{name} = %({name})s" for name in values]
    return await page(models, _ENTRIES, _LATEST, conditions, values, limit=limit, cursor=cursor)


async def ledger_transaction(models: ReadModels, ledger_transaction_id: UUID) -> Answer[list[LedgerEntry]]:
    """The entries of a ledger transaction in order; none when there is no such transaction."""
    query = f"SELECT {_ENTRIES.columns} FROM {_ENTRIES.source} WHERE e.ledger_transaction_id = %(id)s ORDER BY e.number"
    return await models.rows(LedgerEntry, query, id=ledger_transaction_id)


async def trial_balance(models: ReadModels) -> Answer[list[Total]]:
    """What all accounts together hold, by currency."""
    query = (
        "SELECT a.currency, sum(a.debits_cents)::bigint AS debits_cents, sum(a.credits_cents)::bigint AS credits_cents,"
        " sum(a.balance_cents)::bigint AS balance_cents"
        f" FROM {{ledger_accounts}} a WHERE a.currency <> '{NO_CURRENCY}' GROUP BY a.currency ORDER BY a.currency"
    )
    return await models.rows(Total, query)


async def trial_balance_as_of(models: ReadModels, position: int) -> Answer[list[Total]]:
    """The trial balance at a position that the log has: entries never change, so those up to there tell it.

    Raises ReadModelBehind.
    """
    query = (
        "SELECT t.currency, t.debits_cents, t.credits_cents, t.credits_cents - t.debits_cents AS balance_cents FROM ("
        "SELECT e.currency,"
        " coalesce(sum(e.amount_cents) FILTER (WHERE e.direction = 'debit'), 0)::bigint AS debits_cents,"
        " coalesce(sum(e.amount_cents) FILTER (WHERE e.direction = 'credit'), 0)::bigint AS credits_cents"
        " FROM {ledger_entries} e WHERE e.position <= %(position)s GROUP BY e.currency) AS t ORDER BY t.currency"
    )
    found = await models.reaching(position).rows(Total, query, position=position)
    return Answer(found.value, position)
