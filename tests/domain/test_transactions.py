from collections.abc import Callable
from typing import Any

import pytest

from domain import transactions
from domain.errors import Conflict, Invalid
from domain.events import Event
from domain.transactions import (
    Transaction,
    TransactionCompleted,
    TransactionCreated,
    TransactionFailed,
    TransactionProcessing,
    evolve,
)
from tests.support.given_when_then import an_id, fold, given, when

ANN, SOURCE, TARGET = an_id("ann"), an_id("source"), an_id("target")
ORDER, PAYMENT = an_id("order"), an_id("payment")
CREATED = TransactionCreated(
    type="transfer",
    amount_cents=500,
    currency="EUR",
    user_id=ANN,
    from_wallet_id=SOURCE,
    to_wallet_id=TARGET,
)
PROCESSING = TransactionProcessing()
COMPLETED = TransactionCompleted(amount_cents=500, currency="EUR")
FAILED = TransactionFailed(step="credit", code="wallet_inactive", refunded_cents=500)


def a_transfer(**changed: Any) -> list[Event]:
    wanted = {
        "user_id": ANN,
        "from_wallet_id": SOURCE,
        "to_wallet_id": TARGET,
        "amount_cents": 500,
        "currency": "EUR",
    }
    return transactions.transfer(**{**wanted, **changed})


def a_deposit(**changed: Any) -> list[Event]:
    wanted = {
        "user_id": ANN,
        "to_wallet_id": TARGET,
        "payment_id": PAYMENT,
        "amount_cents": 500,
        "currency": "EUR",
    }
    return transactions.deposit(**{**wanted, **changed})


def a_payment(**changed: Any) -> list[Event]:
    wanted = {"user_id": ANN, "from_wallet_id": SOURCE, "order_id": ORDER, "payment_id": PAYMENT}
    return transactions.payment(**{**wanted, "amount_cents": 500, "currency": "EUR", **changed})


def test_a_transfer_names_both_wallets() -> None:
    when(a_transfer).then(CREATED)
    assert fold(evolve, CREATED).status == "PENDING"


def test_a_deposit_names_its_target_and_a_payment_its_source() -> None:
    assert fold(evolve, *a_deposit()).to_wallet_id == TARGET
    assert fold(evolve, *a_payment()).from_wallet_id == SOURCE


@pytest.mark.parametrize(
    ("make", "immutable"), [(a_transfer, True), (a_payment, True), (a_deposit, False)]
)
def test_only_a_deposit_may_change_after_its_end(
    make: Callable[[], list[Event]], immutable: bool
) -> None:
    assert not fold(evolve, *make(), PROCESSING).is_immutable
    assert fold(evolve, *make(), PROCESSING, COMPLETED).is_immutable is immutable


@pytest.mark.parametrize("make", [a_transfer, a_deposit, a_payment])
@pytest.mark.parametrize(
    ("wrong", "code"),
    [({"amount_cents": n}, "invalid_amount") for n in (0, -5, 100_000_001)]
    + [({"currency": c}, "invalid_currency") for c in ("eur", "ZZZ")],
)
def test_what_makes_no_sense_is_refused(
    make: Callable[..., list[Event]], wrong: dict[str, Any], code: str
) -> None:
    when(lambda: make(**wrong)).then_refused(Invalid, code)


def test_nobody_transfers_to_the_same_wallet() -> None:
    when(lambda: a_transfer(to_wallet_id=SOURCE)).then_refused(Invalid, "same_wallet")


def test_it_is_processed_once() -> None:
    given(evolve, CREATED).when(transactions.process).then(PROCESSING)
    given(evolve, CREATED, PROCESSING).when(transactions.process).then_nothing()


def test_it_ends_completed() -> None:
    given(evolve, CREATED, PROCESSING).when(transactions.complete).then(COMPLETED)
    assert fold(evolve, CREATED, PROCESSING, COMPLETED).is_final


def test_or_failed_with_the_step_and_what_went_back() -> None:
    given(evolve, CREATED, PROCESSING).when(
        lambda t: transactions.fail(t, "credit", "wallet_inactive", 500)
    ).then(FAILED)
    failed = fold(evolve, CREATED, PROCESSING, FAILED)
    assert (failed.status, failed.step, failed.code, failed.refunded_cents) == (
        "FAILED", "credit", "wallet_inactive", 500,
    )  # fmt: skip


def fail(transaction: Transaction) -> list[Event]:
    return transactions.fail(transaction, "deduct", "insufficient_funds")


@pytest.mark.parametrize("end", [COMPLETED, FAILED])
@pytest.mark.parametrize("decide", [transactions.process, transactions.complete, fail])
def test_nothing_more_happens_after_its_end(
    end: Event, decide: Callable[[Transaction], list[Event]]
) -> None:
    given(evolve, CREATED, PROCESSING, end).when(decide).then_refused(
        Conflict, "transaction_settled"
    )
