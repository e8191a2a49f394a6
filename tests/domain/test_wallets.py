from collections.abc import Callable

import pytest
from spec import an_id, fold, given, when

from domain import wallets
from domain.errors import Conflict, Invalid
from domain.events import Event
from domain.wallets import (
    Cause,
    FundsAdded,
    FundsDeducted,
    Wallet,
    WalletCreated,
    WalletDeactivated,
    WalletReactivated,
    evolve,
)

OWNER, TRANSFER = an_id("owner"), an_id("transfer")
OPENED = WalletCreated(user_id=OWNER, currency="EUR")
CLOSED, OPEN_AGAIN = WalletDeactivated(reason="lost phone"), WalletReactivated(reason="found")
BY_TRANSFER = Cause(transaction_id=TRANSFER)
FIVE_IN = FundsAdded(amount_cents=500, currency="EUR", balance_cents=500, transaction_id=TRANSFER)
TWO_OUT = FundsDeducted(amount_cents=200, currency="EUR", balance_cents=300, transaction_id=TRANSFER)
HUGE = 10_000_001


def test_a_new_wallet_is_open_and_empty() -> None:
    when(lambda: wallets.create(OWNER, "EUR")).then(OPENED)
    assert fold(evolve, OPENED) == Wallet(OWNER, "EUR", 0, active=True)


@pytest.mark.parametrize("currency", ["eur", "XXX", "EURO", ""])
def test_a_wallet_is_in_a_currency_that_exists(currency: str) -> None:
    when(lambda: wallets.create(OWNER, currency)).then_refused(Invalid, "invalid_currency")


def test_money_goes_in_and_out() -> None:
    given(evolve, OPENED).when(lambda w: wallets.add_funds(w, 500, BY_TRANSFER)).then(FIVE_IN)
    given(evolve, OPENED, FIVE_IN).when(lambda w: wallets.deduct_funds(w, 200, BY_TRANSFER)).then(TWO_OUT)


def test_all_of_it_may_go_out_but_not_a_cent_more() -> None:
    given(evolve, OPENED, FIVE_IN, TWO_OUT).when(lambda w: wallets.deduct_funds(w, 300, Cause())).then(
        FundsDeducted(amount_cents=300, currency="EUR", balance_cents=0)
    )
    refusal = (
        given(evolve, OPENED, FIVE_IN, TWO_OUT)
        .when(lambda w: wallets.deduct_funds(w, 301, Cause()))
        .then_refused(Conflict, "insufficient_funds")
    )
    assert refusal.extra == {"balance_cents": 300}


@pytest.mark.parametrize("amount", [0, -1, HUGE])
@pytest.mark.parametrize("move", [wallets.add_funds, wallets.deduct_funds, wallets.give_back])
def test_amounts_are_above_zero_and_bounded(amount: int, move: Callable[..., list[Event]]) -> None:
    given(evolve, OPENED, FIVE_IN).when(lambda w: move(w, amount, Cause())).then_refused(Invalid, "invalid_amount")


def test_a_deactivated_wallet_moves_nothing() -> None:
    closed = given(evolve, OPENED, FIVE_IN, CLOSED)
    closed.when(lambda w: wallets.add_funds(w, 1, Cause())).then_refused(Conflict, "wallet_inactive")
    closed.when(lambda w: wallets.deduct_funds(w, 1, Cause())).then_refused(Conflict, "wallet_inactive")


def test_what_a_transfer_took_comes_back_even_to_a_deactivated_wallet() -> None:
    given(evolve, OPENED, FIVE_IN, TWO_OUT, CLOSED).when(lambda w: wallets.give_back(w, 200, BY_TRANSFER)).then(
        FundsAdded(amount_cents=200, currency="EUR", balance_cents=500, transaction_id=TRANSFER)
    )


def test_it_is_deactivated_and_reactivated_with_a_reason() -> None:
    given(evolve, OPENED).when(lambda w: wallets.deactivate(w, "lost phone")).then(CLOSED)
    given(evolve, OPENED, CLOSED).when(lambda w: wallets.reactivate(w, "found")).then(OPEN_AGAIN)
    given(evolve, OPENED, CLOSED, OPEN_AGAIN).when(lambda w: wallets.deactivate(w, "lost phone")).then(CLOSED)


def test_twice_is_refused() -> None:
    given(evolve, OPENED, CLOSED).when(lambda w: wallets.deactivate(w, "again")).then_refused(
        Conflict, "wallet_inactive"
    )
    given(evolve, OPENED).when(lambda w: wallets.reactivate(w, "why")).then_refused(Conflict, "wallet_active")


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_operators_say_why(reason: str) -> None:
    given(evolve, OPENED).when(lambda w: wallets.deactivate(w, reason)).then_refused(Invalid, "reason_required")
    given(evolve, OPENED, CLOSED).when(lambda w: wallets.reactivate(w, reason)).then_refused(Invalid, "reason_required")
