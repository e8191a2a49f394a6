"""Wallets, their statements, and transactions."""

from domain.events import Event
from domain.transactions import (
    TransactionCompleted,
    TransactionCreated,
    TransactionFailed,
    TransactionProcessing,
)
from domain.wallets import (
    FundsAdded,
    FundsDeducted,
    WalletCreated,
    WalletDeactivated,
    WalletReactivated,
)
from projections.models.transactions import Transaction, Transactions
from projections.models.wallets import Wallet, WalletMovement, WalletMovements, Wallets
from tests.support.events.history import BUYER, PAYMENT, History, at, some_id

WALLET, OTHER, TRANSACTION = some_id("wallet"), some_id("other wallet"), some_id("transaction")
OPENED = WalletCreated(user_id=BUYER, currency="USD")
DEPOSITED = FundsAdded(
    amount_cents=500,
    currency="USD",
    balance_cents=500,
    transaction_id=TRANSACTION,
    payment_id=PAYMENT,
)
TAKEN = FundsDeducted(amount_cents=200, currency="USD", balance_cents=300, reason="a mistake")


def test_a_new_wallet_is_empty() -> None:
    assert History().happened(WALLET, OPENED).row(Wallets(), WALLET) == Wallet(
        WALLET,
        BUYER,
        "USD",
        0,
        0,
        "ACTIVE",
        version=1,
        created_at=at(1),
        updated_at=at(1),
        created_position=1,
    )


def test_a_wallet_holds_what_its_last_movement_says() -> None:
    wallet = History().happened(WALLET, OPENED, DEPOSITED, TAKEN).row(Wallets(), WALLET)
    assert isinstance(wallet, Wallet)
    assert (wallet.balance_cents, wallet.version, wallet.created_at, wallet.updated_at) == (
        300,
        3,
        at(1),
        at(3),
    )


def test_a_wallet_is_inactive_until_it_is_reactivated() -> None:
    story = History().happened(WALLET, OPENED, WalletDeactivated(reason="fraud?"))
    assert _status(story) == "INACTIVE"
    story.happened(WALLET, WalletReactivated(reason="no fraud"))
    assert _status(story) == "ACTIVE"


def _status(story: History) -> str:
    wallet = story.row(Wallets(), WALLET)
    assert wallet is not None
    return wallet.status


def test_a_statement_has_a_line_for_each_movement_and_says_why() -> None:
    story = History().happened(WALLET, OPENED, DEPOSITED, WalletDeactivated(reason="x"), TAKEN)
    lines = WalletMovements().fold(story.events).all()
    assert lines == [
        WalletMovement(WALLET, 2, "credit", 500, "USD", 500, TRANSACTION, PAYMENT, None, at(2)),
        WalletMovement(WALLET, 4, "debit", 200, "USD", 300, None, None, "a mistake", at(4)),
    ]
    assert story.row(WalletMovements(), (WALLET, 4)) == lines[1]


def transferred(*events: Event) -> Transaction:
    created = TransactionCreated(
        type="transfer",
        amount_cents=200,
        currency="USD",
        user_id=BUYER,
        from_wallet_id=WALLET,
        to_wallet_id=OTHER,
    )
    row = History().happened(TRANSACTION, created, *events).row(Transactions(), TRANSACTION)
    assert isinstance(row, Transaction)
    return row


def test_a_transaction_tells_how_far_it_has_come() -> None:
    completed = TransactionCompleted(amount_cents=200, currency="USD")
    new, half, whole = (
        transferred(),
        transferred(TransactionProcessing()),
        transferred(TransactionProcessing(), completed),
    )
    assert [each.status for each in (new, half, whole)] == ["PENDING", "PROCESSING", "COMPLETED"]
    assert (new.user_id, new.from_wallet_id, new.to_wallet_id, new.payment_id) == (
        BUYER,
        WALLET,
        OTHER,
        None,
    )
    assert (whole.version, whole.created_at, whole.updated_at, whole.created_position) == (
        3,
        at(1),
        at(3),
        1,
    )
    assert (whole.step, whole.code, whole.refunded_cents) == (None, None, 0)


def test_a_failed_transaction_tells_where_why_and_what_was_given_back() -> None:
    failed = TransactionFailed(step="credit", code="wallet_inactive", refunded_cents=200)
    row = transferred(TransactionProcessing(), failed)
    assert (row.status, row.step, row.code, row.refunded_cents) == (
        "FAILED",
        "credit",
        "wallet_inactive",
        200,
    )
