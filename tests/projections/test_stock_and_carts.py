"""Stock and the carts that reserve it."""

from uuid import UUID

import psycopg
import pytest

from domain.cart import (
    CartAbandoned,
    CartCompleted,
    CartCreated,
    CheckoutInitiated,
    ItemAdded,
    ItemChanged,
    ItemRemoved,
)
from domain.events import Event
from domain.ids import stock_id
from domain.inventory import (
    Allocated,
    LowStock,
    ReservationChanged,
    ReservationExpired,
    ReservationFulfilled,
    ReservationReleased,
    Reserved,
    StockCreated,
    StockUpdated,
)
from domain.orders import OrderLine
from projections.engine.tables import PostgresTable
from projections.models.cart_outcomes import CartLine, CartOutcomeRow, CartOutcomes
from projections.models.carts import Cart, CartItemRow, Carts
from projections.models.deadlines import HOLD, Deadline, Deadlines
from projections.models.stock import StockItems, StockRow, item_key
from tests.support.events.history import (
    BUYER,
    DUE,
    GAME,
    ORDER,
    PAYMENT,
    SELLER,
    START,
    History,
    at,
    order_created,
    some_id,
)

STOCK, CART, ONE, TWO = stock_id(GAME), some_id("cart"), some_id("one"), some_id("two")
COUNTED = (
    StockCreated(game_id=GAME, seller_id=SELLER, sku="C-1"),
    StockUpdated(total=10, available=10),
)


def held(reservation_id: UUID = ONE, quantity: int = 3) -> Reserved:
    return Reserved(reservation_id=reservation_id, cart_id=CART, quantity=quantity, expires_at=DUE)


def allocated(reservation_id: UUID = ONE, quantity: int = 3) -> Allocated:
    return Allocated(
        reservation_id=reservation_id, order_id=ORDER, quantity=quantity, expires_at=DUE
    )


def stock(*events: Event) -> StockRow:
    row = History().happened(STOCK, *COUNTED, *events).row(StockItems(), item_key(STOCK))
    assert isinstance(row, StockRow)
    assert row.available + row.reserved + row.allocated == row.total
    return row


def hold(reservation_id: UUID, *events: Event) -> StockRow | None:
    row = History().happened(STOCK, *COUNTED, *events).row(StockItems(), (STOCK, reservation_id))
    assert row is None or isinstance(row, StockRow)
    return row


def test_a_new_stock_item_is_empty() -> None:
    times = {"created_at": at(1), "updated_at": at(1)}
    assert History().happened(STOCK, COUNTED[0]).row(StockItems(), item_key(STOCK)) == StockRow(
        STOCK, STOCK, 0, 0, 0, 0, version=1, product_id=GAME, seller_id=SELLER, sku="C-1", **times
    )


@pytest.mark.parametrize(
    ("events", "numbers"),
    [
        ([], (10, 10, 0, 0)),
        ([held()], (10, 7, 3, 0)),
        ([held(), held(TWO, 4)], (10, 3, 7, 0)),
        (
            [held(), ReservationChanged(reservation_id=ONE, quantity=5, expires_at=DUE)],
            (10, 5, 5, 0),
        ),
        ([held(), allocated()], (10, 7, 0, 3)),
        ([held(), ReservationReleased(reservation_id=ONE, reason="x")], (10, 10, 0, 0)),
        ([held(), ReservationExpired(reservation_id=ONE)], (10, 10, 0, 0)),
        (
            [held(), allocated(), ReservationReleased(reservation_id=ONE, reason="x")],
            (10, 10, 0, 0),
        ),
        (
            [
                held(),
                allocated(),
                ReservationFulfilled(reservation_id=ONE, order_id=ORDER, quantity=3),
            ],
            (7, 7, 0, 0),
        ),
        ([held(), StockUpdated(total=3, available=0)], (3, 0, 3, 0)),
        ([held(), LowStock(available=7, threshold=7)], (10, 7, 3, 0)),
    ],
)
def test_stock_is_available_reserved_or_allocated(
    events: list[Event], numbers: tuple[int, ...]
) -> None:
    row = stock(*events)

    assert (row.total, row.available, row.reserved, row.allocated) == numbers
    assert (row.version, row.updated_at) == (2 + len(events), at(2 + len(events)))


def test_a_hold_is_a_row_of_its_own_for_as_long_as_it_lasts() -> None:
    events = held(), held(TWO, 2), allocated(TWO, 2)
    of_cart = StockRow(
        STOCK, ONE, 3, 0, 3, 0, version=3, created_at=at(3), updated_at=at(3), expires_at=DUE
    )
    of_order = StockRow(
        STOCK, TWO, 2, 0, 0, 2, version=5, created_at=at(5), updated_at=at(5), expires_at=DUE
    )

    assert (hold(ONE, *events), hold(TWO, *events)) == (of_cart, of_order)
    assert hold(ONE, *events, ReservationReleased(reservation_id=ONE, reason="x")) is None
    assert hold(ONE, *events, ReservationExpired(reservation_id=ONE)) is None
    assert (
        hold(TWO, *events, ReservationFulfilled(reservation_id=TWO, order_id=ORDER, quantity=2))
        is None
    )


def test_the_table_takes_no_stock_that_does_not_add_up(database: str) -> None:
    table = PostgresTable(StockRow)
    with psycopg.connect(database, autocommit=True) as conn:
        table.prepare(conn, "stock_9")
        table.write(conn, "stock_9", [stock(held())], [])
        wrong = stock(held())
        wrong.available = 8
        below = stock(held())
        below.available = -1
        below.total = 2
        for row in (wrong, below):
            with pytest.raises(psycopg.errors.CheckViolation):
                table.write(conn, "stock_9", [row], [])
        assert table.fetch(conn, "stock_9", [item_key(STOCK)]) == [stock(held())]


# -- carts -----------------------------------------------------------------------------------------

CREATED = CartCreated(buyer_id=BUYER, currency="USD", expires_at=START)


def added(item_id: UUID = ONE, quantity: int = 2) -> ItemAdded:
    return ItemAdded(
        item_id=item_id, game_id=GAME, seller_id=SELLER, sku="C-1", title="Chess",
        quantity=quantity,
        unit_price_cents=500, expires_at=DUE, reservation_id=TWO,
    )  # fmt: skip


def cart(*events: Event) -> Cart:
    row = History().happened(CART, CREATED, *events).row(Carts(), CART)
    assert isinstance(row, Cart)
    return row


def test_a_cart_has_its_lines_and_what_they_cost() -> None:
    assert cart(added()) == Cart(
        CART, BUYER, "ACTIVE", "USD", [CartItemRow(ONE, GAME, SELLER, "C-1", "Chess", 2, 500,
        TWO)], total_cents=1000,
        expires_at=DUE, order_id=None, version=2, created_at=at(1), updated_at=at(2),
        created_position=1,
    )  # fmt: skip


def test_every_change_of_a_cart_counts_and_puts_its_end_off() -> None:
    changed = cart(added(), added(TWO, 1), ItemChanged(item_id=ONE, quantity=5, expires_at=at(500)))
    assert ([item.quantity for item in changed.items], changed.total_cents) == ([5, 1], 3000)
    assert changed.expires_at == at(500)
    left = cart(added(), added(TWO, 1), ItemRemoved(item_id=ONE, expires_at=at(500)))
    assert ([item.item_id for item in left.items], left.total_cents, left.expires_at) == (
        [TWO],
        500,
        at(500),
    )


def test_a_cart_ends_completed_abandoned_or_expired() -> None:
    out = CheckoutInitiated(order_id=ORDER, payment_id=PAYMENT)
    assert (cart(added(), out).status, cart(added(), out).order_id) == ("CHECKOUT", ORDER)
    assert cart(added(), out, CartCompleted(order_id=ORDER)).status == "COMPLETED"
    assert cart(added(), out, CartAbandoned(reason="payment_failed")).status == "ABANDONED"
    assert cart(added(), CartAbandoned(reason="expired")).status == "EXPIRED"


def test_what_becomes_of_a_cart_counts_on_the_day_on_which_it_was_begun() -> None:
    out = CheckoutInitiated(order_id=ORDER, payment_id=PAYMENT)
    filled = (CREATED, added(), added(TWO), ItemChanged(item_id=ONE, quantity=5, expires_at=DUE))
    emptied = [ItemRemoved(item_id=each, expires_at=DUE) for each in (ONE, TWO)]

    def outcome(*then: Event) -> CartOutcomeRow:
        row = History().happened(CART, *filled, *then).row(CartOutcomes(), CART)
        assert isinstance(row, CartOutcomeRow)
        assert (row.day, row.currency) == (START.date(), "USD")
        return row

    assert outcome().lines == [
        CartLine(ONE, SELLER, GAME, 5, 500),
        CartLine(TWO, SELLER, GAME, 2, 500),
    ]
    assert outcome(*emptied).lines == []
    ends = [
        (out,),
        (out, CartCompleted(order_id=ORDER)),
        (out, CartAbandoned(reason="payment_failed")),
    ]
    assert [(row.checked_out, row.outcome) for row in (outcome(*then) for then in ends)] == [
        (True, None), (True, "completed"), (True, "payment_failed"),
    ]  # fmt: skip
    expired = outcome(CartAbandoned(reason="expired"))
    assert (expired.checked_out, expired.outcome) == (False, "expired")


# -- deadlines of holds ----------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["cart", "stock"])
def test_a_hold_of_our_own_cart_has_no_deadline_in_any_order_of_events(first: str) -> None:
    told: dict[str, tuple[UUID, list[Event]]] = {
        "cart": (CART, [CREATED, added()]),
        "stock": (STOCK, [held(TWO)]),
    }
    history = History()
    for each in sorted(told, key=lambda name: name != first):
        stream_id, events = told[each]
        history.happened(stream_id, *events)
    again = ReservationChanged(reservation_id=TWO, quantity=1, expires_at=DUE)
    assert history.happened(STOCK, again).row(Deadlines(), (TWO, HOLD)) is None


def test_a_hold_of_another_systems_cart_has_a_deadline_until_it_ends() -> None:
    def deadline(*then: Event) -> object:
        return History().happened(STOCK, held(), *then).row(Deadlines(), (ONE, HOLD))

    later = ReservationChanged(reservation_id=ONE, quantity=1, expires_at=at(5000))
    assert deadline() == Deadline(ONE, HOLD, STOCK, DUE, version=1)
    assert deadline(later) == Deadline(ONE, HOLD, STOCK, at(5000), version=2)
    hard = Allocated(reservation_id=ONE, order_id=ORDER, quantity=3, expires_at=at(6000))
    assert deadline(hard) == Deadline(ONE, HOLD, STOCK, at(6000), version=2)
    for end in (
        ReservationReleased(reservation_id=ONE, reason="x"),
        ReservationExpired(reservation_id=ONE),
        ReservationFulfilled(reservation_id=ONE, order_id=ORDER, quantity=3),
    ):
        assert deadline(end) is deadline(hard, end) is None


@pytest.mark.parametrize("first", ["order", "stock"])
def test_a_hold_that_a_checkout_renewed_ends_with_its_order_in_any_order_of_events(
    first: str,
) -> None:
    line = OrderLine(
        some_id("line"), GAME, SELLER, "PHYSICAL", "Chess", 3, 500, 1000, reservation_id=ONE
    )
    history = History().happened(
        CART, CREATED, CheckoutInitiated(order_id=ORDER, payment_id=PAYMENT)
    )
    told: dict[str, tuple[UUID, list[Event]]] = {
        "order": (ORDER, [order_created(lines=(line,))]),
        "stock": (STOCK, [held(), allocated()]),
    }
    for each in sorted(told, key=lambda name: name != first):
        stream_id, events = told[each]
        history.happened(stream_id, *events)
    assert history.row(Deadlines(), (ONE, HOLD)) is None
