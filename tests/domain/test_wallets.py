from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from hypothesis import given as for_any
from hypothesis import strategies as st

from domain import wallets
from domain.errors import Conflict, Invalid, Refused
from domain.events import Event
from domain.wallets import (
    Cause,
    DebtRecorded,
    DebtSettled,
    FundsAdded,
    FundsDeducted,
    Wallet,
    WalletCreated,
    WalletDeactivated,
    WalletReactivated,
    evolve,
)
from tests.support.given_when_then import an_id, fold, given, when

OWNER, TRANSFER = an_id("owner"), an_id("transfer")
OPENED = WalletCreated(user_id=OWNER, currency="EUR")
CLOSED, OPEN_AGAIN = WalletDeactivated(reason="lost phone"), WalletReactivated(reason="found")
BY_TRANSFER = Cause(transaction_id=TRANSFER)
FIVE_IN = FundsAdded(amount_cents=500, currency="EUR", balance_cents=500, transaction_id=TRANSFER)
TWO_OUT = FundsDeducted(
    amount_cents=200, currency="EUR", balance_cents=300, transaction_id=TRANSFER
)
HUGE = 100_000_001


def test_a_new_wallet_is_open_and_empty() -> None:
    when(lambda: wallets.create(OWNER, "EUR")).then(OPENED)
    assert fold(evolve, OPENED) == Wallet(OWNER, "EUR", 0, active=True)


@pytest.mark.parametrize("currency", ["eur", "XXX", "EURO", ""])
def test_a_wallet_is_in_a_currency_that_exists(currency: str) -> None:
    when(lambda: wallets.create(OWNER, currency)).then_refused(Invalid, "invalid_currency")


def test_money_goes_in_and_out() -> None:
    given(evolve, OPENED).when(lambda w: wallets.add_funds(w, 500, BY_TRANSFER)).then(FIVE_IN)
    given(evolve, OPENED, FIVE_IN).when(lambda w: wallets.deduct_funds(w, 200, BY_TRANSFER)).then(
        TWO_OUT
    )


def test_all_of_it_may_go_out_but_not_a_cent_more() -> None:
    given(evolve, OPENED, FIVE_IN, TWO_OUT).when(
        lambda w: wallets.deduct_funds(w, 300, Cause())
    ).then(FundsDeducted(amount_cents=300, currency="EUR", balance_cents=0))
    refusal = (
        given(evolve, OPENED, FIVE_IN, TWO_OUT)
        .when(lambda w: wallets.deduct_funds(w, 301, Cause()))
        .then_refused(Conflict, "insufficient_funds")
    )
    assert refusal.extra == {"balance_cents": 300}


@pytest.mark.parametrize("amount", [0, -1, HUGE])
@pytest.mark.parametrize("move", [wallets.add_funds, wallets.deduct_funds, wallets.give_back])
def test_amounts_are_above_zero_and_bounded(amount: int, move: Callable[..., list[Event]]) -> None:
    given(evolve, OPENED, FIVE_IN).when(lambda w: move(w, amount, Cause())).then_refused(
        Invalid, "invalid_amount"
    )


def test_a_deactivated_wallet_moves_nothing() -> None:
    closed = given(evolve, OPENED, FIVE_IN, CLOSED)
    closed.when(lambda w: wallets.add_funds(w, 1, Cause())).then_refused(
        Conflict, "wallet_inactive"
    )
    closed.when(lambda w: wallets.deduct_funds(w, 1, Cause())).then_refused(
        Conflict, "wallet_inactive"
    )


def test_what_a_transfer_took_comes_back_even_to_a_deactivated_wallet() -> None:
    given(evolve, OPENED, FIVE_IN, TWO_OUT, CLOSED).when(
        lambda w: wallets.give_back(w, 200, BY_TRANSFER)
    ).then(FundsAdded(amount_cents=200, currency="EUR", balance_cents=500, transaction_id=TRANSFER))


def test_it_is_deactivated_and_reactivated_with_a_reason() -> None:
    given(evolve, OPENED).when(lambda w: wallets.deactivate(w, "lost phone")).then(CLOSED)
    given(evolve, OPENED, CLOSED).when(lambda w: wallets.reactivate(w, "found")).then(OPEN_AGAIN)
    given(evolve, OPENED, CLOSED, OPEN_AGAIN).when(
        lambda w: wallets.deactivate(w, "lost phone")
    ).then(CLOSED)


def test_twice_is_refused() -> None:
    given(evolve, OPENED, CLOSED).when(lambda w: wallets.deactivate(w, "again")).then_refused(
        Conflict, "wallet_inactive"
    )
    given(evolve, OPENED).when(lambda w: wallets.reactivate(w, "why")).then_refused(
        Conflict, "wallet_active"
    )


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_operators_say_why(reason: str) -> None:
    given(evolve, OPENED).when(lambda w: wallets.deactivate(w, reason)).then_refused(
        Invalid, "reason_required"
    )
    given(evolve, OPENED, CLOSED).when(lambda w: wallets.reactivate(w, reason)).then_refused(
        Invalid, "reason_required"
    )


# -- a deposit that was taken back -----------------------------------------------------------------

DEPOSIT, PAYMENT = an_id("deposit"), an_id("payment")
RECOVERED = FundsDeducted(
    amount_cents=300,
    currency="EUR",
    balance_cents=0,
    transaction_id=DEPOSIT,
    payment_id=PAYMENT,
    reason="deposit refunded",
)
OWED = DebtRecorded(
    amount_cents=200, currency="EUR", owed_cents=200, transaction_id=DEPOSIT, payment_id=PAYMENT
)
FROZEN = (OPENED, FIVE_IN, TWO_OUT, RECOVERED, OWED)


def reclaim_deposit(amount_cents: int) -> Callable[[Wallet], list[Event]]:
    return lambda w: wallets.reclaim_deposit(
        w, amount_cents, transaction_id=DEPOSIT, payment_id=PAYMENT
    )


def test_a_deposit_that_is_still_there_is_taken_back_whole() -> None:
    given(evolve, OPENED, FIVE_IN, TWO_OUT).when(reclaim_deposit(300)).then(RECOVERED)


def test_what_was_spent_of_a_deposit_is_owed() -> None:
    given(evolve, OPENED, FIVE_IN, TWO_OUT).when(reclaim_deposit(500)).then(RECOVERED, OWED)
    wallet = fold(evolve, *FROZEN)
    assert (wallet.status, wallet.balance_cents, wallet.owed_cents) == ("FROZEN", 0, 200)
    again = DebtRecorded(
        amount_cents=100, currency="EUR", owed_cents=300, transaction_id=DEPOSIT, payment_id=PAYMENT
    )
    given(evolve, *FROZEN).when(reclaim_deposit(100)).then(again)


def test_a_deactivated_wallet_gives_a_deposit_back_too_and_stays_deactivated() -> None:
    given(evolve, OPENED, FIVE_IN, TWO_OUT, CLOSED).when(reclaim_deposit(500)).then(RECOVERED, OWED)
    assert fold(evolve, *FROZEN, CLOSED).status == "INACTIVE"
    assert fold(evolve, *FROZEN, CLOSED, OPEN_AGAIN).status == "FROZEN"


def test_from_a_frozen_wallet_nothing_is_spent() -> None:
    refused = given(evolve, *FROZEN).when(lambda w: wallets.deduct_funds(w, 1, Cause()))
    assert refused.then_refused(Conflict, "wallet_frozen").extra == {"owed_cents": 200}
    with pytest.raises(Conflict, match="wallet_frozen"):
        wallets.must_cover(fold(evolve, *FROZEN), 1)
    with pytest.raises(Conflict, match="wallet_inactive"):
        wallets.must_cover(fold(evolve, *FROZEN, CLOSED), 1)


def test_whatever_comes_in_settles_what_is_owed_first() -> None:
    def funds(amount_cents: int) -> FundsAdded:
        return FundsAdded(amount_cents=amount_cents, currency="EUR", balance_cents=amount_cents)

    def settled(amount_cents: int, owed_cents: int, balance_cents: int) -> DebtSettled:
        return DebtSettled(
            amount_cents=amount_cents,
            currency="EUR",
            owed_cents=owed_cents,
            balance_cents=balance_cents,
        )

    for add in (wallets.add_funds, wallets.give_back):
        frozen = given(evolve, *FROZEN)
        frozen.when(partial(add, amount_cents=150, cause=Cause())).then(
            funds(150), settled(150, 50, 0)
        )
        frozen.when(partial(add, amount_cents=200, cause=Cause())).then(
            funds(200), settled(200, 0, 0)
        )
        frozen.when(partial(add, amount_cents=201, cause=Cause())).then(
            funds(201), settled(200, 0, 1)
        )
    assert fold(evolve, *FROZEN, funds(150), settled(150, 50, 0)).status == "FROZEN"
    wallet = fold(evolve, *FROZEN, funds(201), settled(200, 0, 1))
    assert (wallet.status, wallet.balance_cents) == ("ACTIVE", 1)


def test_a_wallet_holds_no_more_than_can_be_counted() -> None:
    full = FundsAdded(amount_cents=1, currency="EUR", balance_cents=wallets.MAX_BALANCE_CENTS)
    given(evolve, OPENED, full).when(lambda w: wallets.add_funds(w, 1, Cause())).then_refused(
        Conflict, "balance_too_large"
    )


Move = Callable[[Wallet], list[Event]]
moves: st.SearchStrategy[Move] = st.one_of(
    st.builds(lambda cents: lambda w: wallets.add_funds(w, cents, Cause()), st.integers(1, 500)),
    st.builds(lambda cents: lambda w: wallets.give_back(w, cents, Cause()), st.integers(1, 500)),
    st.builds(lambda cents: lambda w: wallets.deduct_funds(w, cents, Cause()), st.integers(1, 500)),
    st.builds(reclaim_deposit, st.integers(1, 500)),
    st.just(lambda w: wallets.deactivate(w, "why")),
    st.just(lambda w: wallets.reactivate(w, "why")),
)


@for_any(st.lists(moves, max_size=30))
def test_who_owes_holds_nothing_and_every_cent_is_somewhere(path: list[Move]) -> None:
    log: list[Event] = [OPENED]
    for move in path:
        with suppress(Refused):
            log += move(fold(evolve, *log))
    wallet = fold(evolve, *log)
    assert wallet.balance_cents >= 0 <= wallet.owed_cents
    assert not (wallet.balance_cents and wallet.owed_cents)
    came = sum(event.amount_cents for event in log if isinstance(event, FundsAdded))
    went = sum(
        event.amount_cents for event in log if isinstance(event, FundsDeducted | DebtSettled)
    )
    assert came - went == wallet.balance_cents
    owed = sum(event.amount_cents for event in log if isinstance(event, DebtRecorded))
    assert wallet.owed_cents == owed - sum(
        event.amount_cents for event in log if isinstance(event, DebtSettled)
    )
