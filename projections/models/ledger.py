"""The ledger's accounts with their sums, and every entry with the event that caused it."""

from datetime import datetime
from uuid import UUID

from domain.ledger import AccountOpened, TransactionPosted
from eventstore.log import Placed
from projections.projection import Key, Projection, Row, Rows, on

NO_CURRENCY = ""
"""The currency in the row of an account's opening. Postings add a row for each of their
currencies."""

AccountKey = tuple[str, str]


class LedgerAccountRow(Row):
    """An account in one currency; `balance_cents` is credits minus debits.

    An opened account also has a row without a currency, which holds no money.
    """

    KEY = ("account_id", "currency")

    account_id: str
    currency: str
    debits_cents: int
    credits_cents: int
    balance_cents: int
    opened_at: datetime
    updated_at: datetime


def _opened(event: AccountOpened, _: Placed) -> AccountKey:
    return event.account_id, NO_CURRENCY


def _posted_to(event: TransactionPosted, _: Placed) -> list[AccountKey]:
    return [(entry.account_id, entry.currency) for entry in event.entries]


class LedgerAccounts(Projection[LedgerAccountRow]):
    """Every account in every currency."""

    name, version, row = "ledger_accounts", 1, LedgerAccountRow

    def streams_of(self, key: Key) -> None:  # noqa: ARG002 - whatever the account
        """None: any posting may touch any account. As of a moment, queries sum up the entries
        instead."""
        return

    @on(AccountOpened, key=_opened)
    def opened(self, rows: Rows[LedgerAccountRow], event: AccountOpened, env: Placed) -> None:
        _account(rows, _opened(event, env), env)

    @on(TransactionPosted, key=_posted_to)
    def posted(self, rows: Rows[LedgerAccountRow], event: TransactionPosted, env: Placed) -> None:
        for entry, key in zip(event.entries, _posted_to(event, env), strict=True):
            account = _account(rows, key, env)
            if entry.direction == "credit":
                account.credits_cents += entry.amount_cents
            else:
                account.debits_cents += entry.amount_cents
            account.balance_cents = account.credits_cents - account.debits_cents
            account.updated_at = env.occurred_at


def _account(rows: Rows[LedgerAccountRow], key: AccountKey, env: Placed) -> LedgerAccountRow:
    account = rows.get(key)
    if account is None:
        at = env.occurred_at
        account = LedgerAccountRow(*key, 0, 0, 0, opened_at=at, updated_at=at)
        rows.put(account)
    return account


class LedgerEntry(Row):
    """An entry: the `number`th of its ledger transaction, from 0, and the event that caused it."""

    KEY = ("ledger_transaction_id", "number")
    INDEXES = (
        "account_id, position, number",
        "account_id, currency, position, number",
        "USING btree (position) WHERE number = 0",
    )

    ledger_transaction_id: UUID
    number: int
    account_id: str
    direction: str
    amount_cents: int
    currency: str
    cause_event_id: UUID
    order_id: UUID | None
    payment_id: UUID | None
    transaction_id: UUID | None
    position: int
    at: datetime


def _entries_of(event: TransactionPosted, env: Placed) -> list[tuple[UUID, int]]:
    return [(env.stream_id, number) for number in range(len(event.entries))]


class LedgerEntries(Projection[LedgerEntry]):
    """Every entry of every ledger transaction."""

    name, version, row = "ledger_entries", 1, LedgerEntry

    @on(TransactionPosted, key=_entries_of)
    def posted(self, rows: Rows[LedgerEntry], event: TransactionPosted, env: Placed) -> None:
        for number, entry in enumerate(event.entries):
            rows.put(
                LedgerEntry(
                    ledger_transaction_id=env.stream_id,
                    number=number,
                    account_id=entry.account_id,
                    direction=entry.direction,
                    amount_cents=entry.amount_cents,
                    currency=entry.currency,
                    cause_event_id=event.cause_event_id,
                    order_id=event.order_id,
                    payment_id=event.payment_id,
                    transaction_id=event.transaction_id,
                    position=env.position,
                    at=env.occurred_at,
                )
            )
