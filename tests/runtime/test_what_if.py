"""Deciding again under other rules: by hand-computed cases, and against shops that had these rules
all along."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.aggregates import STOCK
from domain import inventory
from domain.errors import Refused
from domain.events import Event
from domain.ids import PLATFORM_ID
from domain.ledger import REVENUE, Entry, balances, seller_account
from domain.orders import Order, OrderLine, total_of
from domain.payments import Method, Payment, PaymentCaptured, PaymentRefunded, PaymentRefundReversed
from domain.postings import decided
from eventstore.consumers.reader import Page, Place
from runtime.what_if.ledger import decided_by
from runtime.what_if.notices import changes
from runtime.what_if.rules import DEPENDENCES, BadRule, Rules, read_tax_rates

START = datetime(2026, 1, 1, tzinfo=UTC)
BUYER, ANN, BOB, WALLET = uuid4(), UUID(int=1), UUID(int=2), uuid4()
ANNS, BOBS = seller_account(ANN), seller_account(BOB)


def line(cents: int, seller: UUID = ANN, quantity: int = 1, fee_bps: int = 1000) -> OrderLine:
    return OrderLine(uuid4(), uuid4(), seller, "PHYSICAL", "Go", quantity, cents, fee_bps)


def order_of(*lines: OrderLine, region: str = "FR") -> Order:
    return Order(BUYER, region, "USD", total_of(lines), True, uuid4(), START, tuple(lines))


def paid(order: Order, *moved: int, by_wallet: bool = False) -> tuple[Payment, list[object]]:
    """A captured payment of the order, with these refunds; negative ones are reversals."""
    method = Method("wallet", str(WALLET)) if by_wallet else Method("card", "pm")
    total = order.total_cents
    payment = Payment(BUYER, total, "USD", START, order_id=uuid4(), method=method)
    captured = PaymentCaptured(uuid4(), BUYER, total, "USD", method.type)
    back = [
        PaymentRefunded(uuid4(), cents)
        if cents > 0
        else PaymentRefundReversed(uuid4(), -cents, "expired")
        for cents in moved
    ]
    return payment, [captured, *back]


def owners(entries: Sequence[Entry]) -> dict[str, int]:
    """What an event brings to sellers and the platform."""
    sums: dict[str, int] = {}
    for entry in entries:
        if entry.account_id == REVENUE or entry.account_id.startswith("SELLER"):
            signed = entry.amount_cents if entry.direction == "credit" else -entry.amount_cents
            sums[entry.account_id] = sums.get(entry.account_id, 0) + signed
    return sums


def again(rules: Rules, order: Order, *moved: int, by_wallet: bool = False) -> list[dict[str, int]]:
    payment, events = paid(order, *moved, by_wallet=by_wallet)
    found = decided_by(rules, events, payment, order)
    assert not any(any(balances(entries).values()) for entries in found.values())
    return [owners(entries) for entries in found.values()]


# -- by hand ---------------------------------------------------------------------------------------


def test_another_fee_and_a_partial_refund_by_largest_remainder() -> None:
    """8 % of 10.01 is 80.08 cents: 80. Of a refund of 334 of 1001 cents the seller gives 307.31,
    the platform 26.69: whole, 307 and 26, and the cent left to the larger rest."""
    found = again(Rules(START, fee_bps=800), order_of(line(1001)), 334)
    assert found == [{ANNS: 921, REVENUE: 80}, {ANNS: -307, REVENUE: -27}]


def test_several_sellers_have_a_fee_each() -> None:
    """7.5 % of 1000 is 75, of 1500 it is 112.5: half to even, 112. Of a refund of 100 of 2500
    cents: 37.00, 55.52 and 7.48."""
    order = order_of(line(1000), line(500, BOB, quantity=3))
    found = again(Rules(START, fee_bps=750), order, 100)
    assert found == [
        {ANNS: 925, BOBS: 1388, REVENUE: 187},
        {ANNS: -37, BOBS: -56, REVENUE: -7},
    ]


def test_a_reversed_refund_comes_back_to_the_cent() -> None:
    found = again(Rules(START, fee_bps=800), order_of(line(1001)), 334, -334)
    assert found[1:] == [{ANNS: -307, REVENUE: -27}, {ANNS: 307, REVENUE: 27}]


def test_the_platform_s_own_games_bear_no_fee_and_a_fee_of_all_leaves_nothing() -> None:
    order = order_of(line(1000), line(600, PLATFORM_ID, fee_bps=0))
    assert again(Rules(START, fee_bps=0), order) == [{ANNS: 1000, REVENUE: 600}]
    assert again(Rules(START, fee_bps=10_000), order) == [{REVENUE: 1600}]


def test_without_a_tax_of_19_percent_all_is_less_and_refunds_in_proportion() -> None:
    """11.90 with 19 % is 10.00 without; of a refund of 3.97, 333.6 cents: 334. Then the rest."""
    rules = Rules(START, tax_rates={"FR": 1900, "*": 0})
    found = again(rules, order_of(line(1190)), 397, 793)
    assert found == [
        {ANNS: 900, REVENUE: 100},
        {ANNS: -301, REVENUE: -33},
        {ANNS: -599, REVENUE: -67},
    ]
    assert again(rules, order_of(line(1190), region="US")) == [{ANNS: 1071, REVENUE: 119}]


def test_a_region_without_a_rate_has_that_of_all_others() -> None:
    rules = Rules(START, tax_rates={"*": 2500})
    assert again(rules, order_of(line(500, quantity=2))) == [{ANNS: 720, REVENUE: 80}]


# -- always ----------------------------------------------------------------------------------------

LINES = st.lists(
    st.builds(
        line,
        st.integers(0, 5000),
        st.sampled_from([ANN, BOB, PLATFORM_ID]),
        st.integers(1, 3),
    ).map(lambda each: line(each.unit_price_cents, each.seller_id, each.quantity,
                            0 if each.seller_id == PLATFORM_ID else 1000)),
    min_size=1,
    max_size=4,
)  # fmt: skip
SHARES = st.lists(st.floats(0, 1), max_size=4)


def refunds_of(total: int, shares: Sequence[float], *, reversals: bool = True) -> list[int]:
    """Refunds of shares of what is left; some are reversed at once."""
    moved: list[int] = []
    for number, share in enumerate(shares):
        if cents := round((total - sum(moved)) * share):
            moved += [cents, -cents] if reversals and number % 2 else [cents]
    return moved


@given(lines=LINES, shares=SHARES, by_wallet=st.booleans())
def test_under_the_rules_that_were_in_force_nothing_is_another_posting(
    lines: list[OrderLine], shares: list[float], by_wallet: bool
) -> None:
    order = order_of(*lines)
    moved = refunds_of(order.total_cents, shares, reversals=not by_wallet)
    payment, events = paid(order, *moved, by_wallet=by_wallet)
    posted = dict(decided(events, payment, order.lines))
    rules = Rules(START, fee_bps=1000, tax_rates={"*": 0})
    assert decided_by(rules, events, payment, order) == posted


@given(lines=LINES, shares=SHARES, fee=st.integers(0, 10_000), tax=st.integers(0, 10_000))
def test_under_other_rules_no_cent_is_made_or_lost(
    lines: list[OrderLine], shares: list[float], fee: int, tax: int
) -> None:
    """Whatever is refunded whole leaves nothing with anybody, and nobody gives more than they
    got."""
    order = order_of(*lines)
    moved = refunds_of(order.total_cents, shares)
    if rest := order.total_cents - sum(moved):
        moved.append(rest)
    left: dict[str, int] = {}
    for sums in again(Rules(START, fee_bps=fee, tax_rates={"*": tax}), order, *moved):
        for account, cents in sums.items():
            left[account] = left.get(account, 0) + cents
            assert left[account] >= 0
    assert not any(left.values())


# -- low stock -------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["count", "reserve", "allocate", "allocate", "sell", "release"]),
        st.integers(1, 12),
        st.integers(0, 50),
    ),
    max_size=40,
)


def stock_under(threshold: int, steps: Sequence[tuple[str, int, int]]) -> Page:
    """A stock's events, where so many minutes pass before each step."""
    stream_id = UUID(int=7)
    page: Page = []
    stock: Any = None
    now = START

    def happened(events: Sequence[Event]) -> None:
        nonlocal stock
        for event in events:
            position = len(page) + 1
            page.append((Place(position, stream_id, position, event.NAME, now, now), event))
        stock = STOCK.fold(stock, events)

    happened(inventory.create(None, UUID(int=8), ANN, "GO"))
    for number, (step, quantity, minutes) in enumerate(steps):
        now += timedelta(minutes=minutes)
        holds = sorted(stock.holds.items(), key=lambda each: each[0])
        soft = [id_ for id_, held in holds if held.kind == "SOFT"]
        hard = [id_ for id_, held in holds if held.kind == "HARD"]
        try:
            if step == "count":
                happened(inventory.set_total(stock, 2 * quantity, threshold, now=now))
            elif step == "reserve":
                hold, until = UUID(int=100 + number), now + timedelta(days=1)
                happened(inventory.reserve(stock, hold, UUID(int=9), quantity, until, now=now))
            elif step == "allocate" and soft:
                happened(
                    inventory.allocate(
                        stock, soft[0], UUID(int=9), START, now=now, threshold=threshold
                    )
                )
            elif step == "sell" and hard:
                happened(inventory.confirm_sale(stock, hard[0]))
            elif step == "release" and (soft or hard):
                happened(inventory.release(stock, (soft or hard)[0], "x"))
        except Refused:
            continue
    return page


def notices_in(page: Page) -> list[tuple[datetime, int]]:
    return [
        (event.at or env.occurred_at, event.available)
        for env, event in page
        if isinstance(event, inventory.LowStock) and not event.quiet
    ]


@given(steps=STEPS, before=st.integers(0, 8), after=st.integers(0, 8))
def test_another_threshold_sends_what_it_would_have_sent_all_along(
    steps: list[tuple[str, int, int]], before: int, after: int
) -> None:
    page = stock_under(before, steps)
    found = changes(Rules(START, low_stock=after), page)
    sent = set(notices_in(page))
    sent -= {(each.at, each.available) for each in found if not each.would_be_sent}
    sent |= {(each.at, each.available) for each in found if each.would_be_sent}
    assert sorted(sent) == sorted(set(notices_in(stock_under(after, steps))))
    assert after != before or found == []


def test_outside_the_time_notices_stay_as_they_were() -> None:
    """Ten units, of which five are allocated: at a threshold of 5 that was told."""
    page = stock_under(5, [("count", 5, 1), ("reserve", 5, 1), ("allocate", 1, 1)])
    assert notices_in(page) == [(START + timedelta(minutes=3), 5)]
    (change,) = changes(Rules(START, low_stock=4), page)
    assert (change.would_be_sent, change.available, change.sku) == (False, 5, "GO")
    assert changes(Rules(START + timedelta(hours=1), low_stock=4), page) == []
    assert changes(Rules(START, START + timedelta(minutes=3), low_stock=4), page) == []


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["platform_fee_bps", "low_stock"])
@pytest.mark.parametrize(
    "text", ["", "-1", "1.5", "x", "9999999999", pytest.param("9" * 5000, id="5,000 digits")]
)
def test_a_number_that_the_setting_cannot_have_is_refused(name: str, text: str) -> None:
    with pytest.raises(BadRule):
        DEPENDENCES[name].read(text)


def test_tax_rates_come_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text("region,tax_bps\nDE,1900\n*,2000\n")
    assert read_tax_rates(str(path)) == {"DE": 1900, "*": 2000}


@pytest.mark.parametrize(
    "text",
    ["", "region,tax_bps\n", "land,rate\nDE,1\n", "region,tax_bps\nEU,1\n",
     "region,tax_bps\nDE,x\n", "region,tax_bps\nDE,1\nDE,2\n", "region,tax_bps\nDE\n"],
    ids=["empty", "no rates", "other columns", "no country", "no number", "twice", "no rate"],
)  # fmt: skip
def test_a_table_that_says_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(text)
    with pytest.raises(BadRule):
        read_tax_rates(str(path))


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRule):
        read_tax_rates(str(tmp_path / "none.csv"))
