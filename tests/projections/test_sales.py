"""Sales for analytics: the revenue of each line of an order, its refunds, and the fee."""

from datetime import date
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.ids import PLATFORM_ID
from domain.ledger import REVENUE, refunded_shares, seller_account, shares_of
from domain.orders import OrderCancelled, OrderConfirmed, OrderLine, OrderRefunded
from projections.models.sales import SaleRow, Sales
from tests.support.events.history import (
    GAME,
    ORDER,
    PAYMENT,
    SELLER,
    START,
    History,
    order_created,
    some_id,
)

CONFIRMED = OrderConfirmed(payment_id=PAYMENT)


def line(cents: int, seller: UUID = SELLER, quantity: int = 1, fee_bps: int = 1000) -> OrderLine:
    return OrderLine(
        some_id(f"line {cents} {seller}"),
        GAME,
        seller,
        "PHYSICAL",
        "Chess",
        quantity,
        cents,
        fee_bps,
    )


def refund(cents: int) -> OrderRefunded:
    return OrderRefunded(payment_id=PAYMENT, amount_cents=cents, currency="USD", full=False)


def sale_of(*lines: OrderLine, refunds: tuple[int, ...] = ()) -> SaleRow:
    total = sum(each.quantity * each.unit_price_cents for each in lines)
    created = order_created(lines=lines, total_cents=total)
    row = History().happened(ORDER, created, CONFIRMED, *map(refund, refunds)).row(Sales(), ORDER)
    assert isinstance(row, SaleRow)
    return row


def test_an_order_is_a_sale_from_the_day_on_which_it_is_paid() -> None:
    placed = History().happened(ORDER, order_created())
    assert placed.row(Sales(), ORDER).day is None  # type: ignore[union-attr]
    sale = placed.happened(ORDER, CONFIRMED).row(Sales(), ORDER)
    assert isinstance(sale, SaleRow)
    assert (sale.day, sale.currency) == (START.date(), "USD")
    assert isinstance(sale.day, date)
    [sold] = sale.lines
    assert (sold.seller_id, sold.game_id, sold.units, sold.gross_cents) == (SELLER, GAME, 1, 1499)
    assert (sold.refunded_cents, sold.fee_cents) == (0, 150)


def test_a_cancelled_order_counts_as_no_sale() -> None:
    story = History().happened(ORDER, order_created(), OrderCancelled(reason="expired"))
    assert story.row(Sales(), ORDER) is None


def test_the_platforms_own_games_bear_no_fee() -> None:
    assert [
        each.fee_cents for each in sale_of(line(1000, PLATFORM_ID, fee_bps=0), line(1000)).lines
    ] == [0, 100]


def test_the_fee_is_rounded_per_seller_and_spread_over_the_lines() -> None:
    assert [each.fee_cents for each in sale_of(line(5), line(5), line(5)).lines] == [1, 1, 0]


def test_a_refund_is_spread_over_the_lines_pro_rata() -> None:
    sale = sale_of(line(1000, quantity=3), line(1000, some_id("other")), refunds=(1000,))
    assert [(each.refunded_cents, each.fee_cents) for each in sale.lines] == [(750, 225), (250, 75)]


@given(
    lines=st.lists(
        st.tuples(st.integers(0, 300), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=4
    ),
    parts=st.lists(st.floats(0, 1), max_size=4),
)
def test_refunds_take_whole_cents_from_lines_and_nothing_is_left_after_all_of_them(
    lines: list[tuple[int, int, int]], parts: list[float]
) -> None:
    sold = [line(cents, some_id(f"seller {n}"), quantity) for cents, quantity, n in lines]
    left = total = sum(cents * quantity for cents, quantity, _ in lines)
    refunds = []
    for part in parts:
        refunds.append(int(left * part))
        left -= refunds[-1]
    partly = sale_of(*sold, refunds=tuple(refunds)).lines
    assert sum(each.refunded_cents for each in partly) == total - left
    assert all(0 <= each.fee_cents <= each.gross_cents - each.refunded_cents for each in partly)
    wholly = sale_of(*sold, refunds=(*refunds, left)).lines
    assert all((each.refunded_cents, each.fee_cents) == (each.gross_cents, 0) for each in wholly)


@given(
    lines=st.lists(
        st.tuples(st.integers(0, 300), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=4
    ),
    parts=st.lists(st.floats(0, 1), max_size=4),
)
def test_sellers_and_the_platform_have_sold_to_the_cent_what_the_ledger_has(
    lines: list[tuple[int, int, int]], parts: list[float]
) -> None:
    sellers = [PLATFORM_ID, SELLER, some_id("other")]
    sold = [line(cents, sellers[n], quantity, 1000 if n else 0) for cents, quantity, n in lines]
    left, refunds, shares = (
        sum(cents * quantity for cents, quantity, _ in lines),
        [],
        shares_of(sold),
    )
    kept = dict(shares)
    for part in parts:
        refunds.append(int(left * part))
        left -= refunds[-1]
        kept = {
            account: kept[account] - cents
            for account, cents in refunded_shares(shares, refunds).items()
        }
    found = dict.fromkeys(kept, 0)
    for each in sale_of(*sold, refunds=tuple(refunds)).lines:
        account = REVENUE if each.seller_id == PLATFORM_ID else seller_account(each.seller_id)
        for name, cents in (
            (account, each.gross_cents - each.refunded_cents - each.fee_cents),
            (REVENUE, each.fee_cents),
        ):
            found[name] = found.get(name, 0) + cents
    assert {name: cents for name, cents in found.items() if cents} == {
        name: cents for name, cents in kept.items() if cents
    }
