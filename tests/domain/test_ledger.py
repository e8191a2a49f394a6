from fractions import Fraction

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from domain import ledger
from domain.ids import PLATFORM_ID
from domain.ledger import (
    BUYER_EXTERNAL,
    CLEARING,
    REVENUE,
    Entry,
    TransactionPosted,
    seller_account,
    wallet_account,
)
from domain.orders import OrderLine
from tests.support.given_when_then import an_id

CAUSE, ANN, BOB = an_id("cause"), an_id("ann"), an_id("bob")
ANNS, BOBS, WALLET = seller_account(ANN), seller_account(BOB), wallet_account(an_id("wallet"))


def line(
    cents: int, seller_id: object = ANN, *, quantity: int = 1, fee_bps: int = 1000
) -> OrderLine:
    return OrderLine(
        line_id=an_id("line"),
        game_id=an_id("game"),
        seller_id=seller_id,  # type: ignore[arg-type]
        kind="PHYSICAL",
        title="Celeste",
        quantity=quantity,
        unit_price_cents=cents,
        fee_bps=fee_bps,
    )


def signed(entries: list[Entry]) -> dict[str, int]:
    """The effect of the entries on each balance."""
    sums: dict[str, int] = {}
    for entry in entries:
        amount = entry.amount_cents if entry.direction == "credit" else -entry.amount_cents
        sums[entry.account_id] = sums.get(entry.account_id, 0) + amount
    return {account: amount for account, amount in sums.items() if amount}


def test_the_seller_gets_what_the_fee_leaves() -> None:
    assert ledger.shares_of([line(1999)]) == {ANNS: 1799, REVENUE: 200}


@pytest.mark.parametrize(
    ("cents", "fee"),
    [(5, 0), (15, 2), (25, 2), (35, 4), (1, 0), (6, 1), (1995, 200), (1985, 198), (1985 + 20, 200)],
)
def test_the_fee_is_rounded_half_even(cents: int, fee: int) -> None:
    shares = ledger.shares_of([line(cents)])
    assert (shares.get(REVENUE, 0), shares[ANNS]) == (fee, cents - fee)


def test_the_fee_is_rounded_once_per_seller_not_per_line() -> None:
    assert ledger.shares_of([line(5), line(5), line(5, quantity=2)]) == {ANNS: 18, REVENUE: 2}


def test_each_seller_has_a_share() -> None:
    assert ledger.shares_of([line(1000), line(500, BOB, fee_bps=2000)]) == {
        ANNS: 900,
        BOBS: 400,
        REVENUE: 200,
    }


def test_what_the_platform_sells_is_its_revenue_whole() -> None:
    assert ledger.shares_of([line(1000, PLATFORM_ID, fee_bps=0), line(100)]) == {
        ANNS: 90,
        REVENUE: 1010,
    }


def test_a_seller_who_pays_no_fee_gets_all() -> None:
    assert ledger.shares_of([line(1000, fee_bps=0)]) == {ANNS: 1000}


def test_a_card_payment_goes_through_clearing_to_whom_it_belongs() -> None:
    entries = ledger.capture([line(1999)], "USD")
    assert entries[:2] == [
        Entry(BUYER_EXTERNAL, "debit", 1999, "USD"),
        Entry(CLEARING, "credit", 1999, "USD"),
    ]
    assert entries[2] == Entry(CLEARING, "debit", 1999, "USD")
    assert signed(entries) == {BUYER_EXTERNAL: -1999, ANNS: 1799, REVENUE: 200}


def test_a_wallet_pays_the_same_split() -> None:
    assert signed(ledger.split(WALLET, ledger.shares_of([line(1999)]), "USD")) == {
        WALLET: -1999,
        ANNS: 1799,
        REVENUE: 200,
    }


def test_a_refund_mirrors_what_it_undoes() -> None:
    shares = ledger.shares_of([line(1999)])
    back = ledger.gather(WALLET, ledger.refunded_shares(shares, [1999]), "USD")
    assert signed([*ledger.split(WALLET, shares, "USD"), *back]) == {}


def test_a_partial_refund_gives_the_fee_back_pro_rata() -> None:
    shares = ledger.shares_of([line(1000), line(1000, BOB)])
    assert ledger.refunded_shares(shares, [500]) == {ANNS: 225, BOBS: 225, REVENUE: 50}


def test_more_than_was_split_cannot_be_given_back() -> None:
    with pytest.raises(ValueError, match="cannot be given back"):
        ledger.refunded_shares({ANNS: 90, REVENUE: 10}, [60, 41])


def test_an_event_is_posted_once() -> None:
    entries = ledger.move(CLEARING, WALLET, 500, "EUR")
    [posted] = ledger.post(None, CAUSE, entries, transaction_id=an_id("deposit"))
    assert posted == TransactionPosted(
        cause_event_id=CAUSE, entries=tuple(entries), transaction_id=an_id("deposit")
    )
    assert ledger.post(ledger.evolve(None, posted), CAUSE, entries) == []


def test_nothing_is_posted_for_what_moves_nothing() -> None:
    assert ledger.post(None, CAUSE, ledger.move(CLEARING, WALLET, 0, "EUR")) == []


@pytest.mark.parametrize(
    "entries",
    [
        [Entry(WALLET, "credit", 5, "EUR")],
        [Entry(WALLET, "credit", 5, "EUR"), Entry(CLEARING, "debit", 5, "USD")],
        [Entry(WALLET, "credit", -5, "EUR"), Entry(CLEARING, "debit", -5, "EUR")],
    ],
)
def test_unbalanced_entries_are_never_posted(entries: list[Entry]) -> None:
    with pytest.raises(ValueError, match="do not balance"):
        ledger.post(None, CAUSE, entries)


lines = st.lists(
    st.builds(
        line,
        st.integers(0, 100_000),
        st.sampled_from([ANN, BOB, an_id("cyd")]),
        quantity=st.integers(1, 3),
        fee_bps=st.sampled_from([0, 1, 333, 1000, 2999, 10_000]),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=200)
@for_all(lines, st.data())
def test_however_it_is_refunded_each_share_ends_at_zero_and_never_below(
    bought: list[OrderLine], data: st.DataObject
) -> None:
    shares = ledger.shares_of(bought)
    total = sum(each.quantity * each.unit_price_cents for each in bought)
    assert sum(shares.values()) == total
    left, refunds = dict(shares), list[int]()
    while sum(refunds) < total:
        rest = total - sum(refunds)
        refunds.append(rest if len(refunds) == 5 else data.draw(st.integers(1, rest)))
        taken = ledger.refunded_shares(shares, refunds)
        assert sum(taken.values()) == refunds[-1]
        assert all(0 <= amount <= left[account] for account, amount in taken.items())
        for account, amount in taken.items():
            exact = Fraction(refunds[-1] * left[account], rest)
            assert abs(amount - exact) < 1
            left[account] -= amount
    assert not any(left.values())


def test_a_refund_that_was_reversed_gives_each_share_what_it_gave() -> None:
    shares = ledger.shares_of([line(1000), line(1000, BOB)])
    assert ledger.refunded_shares(shares, [500, -500]) == {ANNS: -225, BOBS: -225, REVENUE: -50}
    assert ledger.refunded_shares(shares, [500, -500, 2000]) == shares


@settings(max_examples=200)
@for_all(st.data())
def test_whatever_goes_back_and_comes_again_no_share_gives_more_than_it_has(
    data: st.DataObject,
) -> None:
    shares = {ANNS: data.draw(st.integers(0, 999)), BOBS: data.draw(st.integers(0, 99)), REVENUE: 7}
    left, moves, out = dict(shares), list[int](), 0
    for _ in range(data.draw(st.integers(1, 6))):
        move = data.draw(st.integers(-out, sum(left.values())))
        moves.append(move)
        moved = ledger.refunded_shares(shares, moves)
        assert sum(moved.values()) == move
        left = {account: amount - moved[account] for account, amount in left.items()}
        out += move
        assert all(0 <= amount <= shares[account] for account, amount in left.items())
