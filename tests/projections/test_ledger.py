from typing import Any
from uuid import UUID

from domain.ledger import AccountOpened, Entry, TransactionPosted, move, seller_account
from projections.models.ledger import LedgerAccountRow, LedgerAccounts, LedgerEntries, LedgerEntry
from projections.projection import Rows
from tests.support.events.history import ORDER, PAYMENT, SELLER, History, at, some_id

ACCOUNT, POSTING, CAUSE = seller_account(SELLER), some_id("posting"), some_id("cause")


def posted(*entries: Entry, **ids: UUID) -> TransactionPosted:
    return TransactionPosted(cause_event_id=CAUSE, entries=entries, **ids)


def accounts_after(story: History) -> dict[tuple[str, str], tuple[int, int, int]]:
    rows: Rows[LedgerAccountRow] = LedgerAccounts().fold(story.events)
    return {
        (row.account_id, row.currency): (row.debits_cents, row.credits_cents, row.balance_cents)
        for row in rows.all()
    }


def test_an_account_that_was_opened_is_there_before_anything_is_posted() -> None:
    story = History().happened(
        some_id("account"), AccountOpened(account_id=ACCOUNT, user_id=SELLER)
    )
    assert LedgerAccounts().fold(story.events).all() == [
        LedgerAccountRow(ACCOUNT, "", 0, 0, 0, at(1), at(1))
    ]


def test_a_balance_is_credits_minus_debits_in_each_currency() -> None:
    story = History()
    story.happened(some_id("one"), posted(*move("BUYER_EXTERNAL", ACCOUNT, 900, "USD")))
    story.happened(some_id("two"), posted(*move(ACCOUNT, "BUYER_EXTERNAL", 200, "USD")))
    story.happened(some_id("three"), posted(*move("BUYER_EXTERNAL", ACCOUNT, 50, "JPY")))
    assert accounts_after(story) == {
        ("BUYER_EXTERNAL", "USD"): (900, 200, -700),
        (ACCOUNT, "USD"): (200, 900, 700),
        ("BUYER_EXTERNAL", "JPY"): (50, 0, -50),
        (ACCOUNT, "JPY"): (0, 50, 50),
    }


def test_an_account_that_a_posting_names_twice_gets_both_entries() -> None:
    through = (*move("A", "CLEARING", 10, "USD"), *move("CLEARING", "B", 10, "USD"))
    assert accounts_after(History().happened(POSTING, posted(*through)))["CLEARING", "USD"] == (
        10,
        10,
        0,
    )


def test_every_account_of_a_posting_is_announced() -> None:
    """Rows are fetched by announced keys, a page at a time: one that is not announced costs a query
    of its own."""
    event = posted(*move("A", "B", 10, "USD"), *move("C", "D", 5, "JPY"))
    env = History().happened(POSTING, event).events[0].env
    _, keys = LedgerAccounts.folds[TransactionPosted]
    assert keys(event, env) == [("A", "USD"), ("B", "USD"), ("C", "JPY"), ("D", "JPY")]


def test_every_entry_names_what_caused_it() -> None:
    event = posted(*move("A", ACCOUNT, 10, "USD"), order_id=ORDER, payment_id=PAYMENT)
    story = History().happened(POSTING, event)
    common: dict[str, Any] = {
        "cause_event_id": CAUSE, "order_id": ORDER, "payment_id": PAYMENT, "transaction_id": None,
        "position": 1,
        "at": at(1),
    }  # fmt: skip
    assert LedgerEntries().fold(story.events).all() == [
        LedgerEntry(POSTING, 0, "A", "debit", 10, "USD", **common),
        LedgerEntry(POSTING, 1, ACCOUNT, "credit", 10, "USD", **common),
    ]
