"""A stock item never sells the same unit twice."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain import inventory
from domain.errors import Conflict, Invalid, NotFound, Refused
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
    Stock,
    StockCreated,
    StockUpdated,
    evolve,
)
from domain.reservations import HoldName
from eventstore.snapshots import plain
from projections.models.stock import StockItems
from tests.support.events.history import History
from tests.support.given_when_then import NOON, an_id, fold, given, when

GAME, SELLER, CART, ORDER = an_id("game"), an_id("seller"), an_id("cart"), an_id("order")
SHELF = stock_id(GAME)
R1, R2, R3 = an_id("r1"), an_id("r2"), an_id("r3")
SOON, LATER = NOON + timedelta(minutes=15), NOON + timedelta(minutes=30)
CREATED = StockCreated(game_id=GAME, seller_id=SELLER, sku="CEL-1")
FIVE = StockUpdated(total=5, available=5)
HELD = Reserved(reservation_id=R1, cart_id=CART, quantity=3, expires_at=SOON)
HARD = Allocated(reservation_id=R1, order_id=ORDER, quantity=3, expires_at=LATER)
SOLD = ReservationFulfilled(reservation_id=R1, order_id=ORDER, quantity=3)


def allocate(stock: Stock, now: datetime = NOON) -> list[Event]:
    return inventory.allocate(stock, R1, ORDER, LATER, now=now, threshold=0)


def set_total(stock: Stock, total: int) -> list[Event]:
    return inventory.set_total(stock, total, 0, now=NOON)


def reserve(
    stock: Stock, quantity: int, reservation_id: UUID = R2, *, now: datetime = NOON
) -> list[Event]:
    return inventory.reserve(
        stock,
        reservation_id,
        CART,
        quantity,
        LATER,
        now=now,
    )


def test_a_hold_past_its_time_is_not_found_by_its_cart_and_a_newer_one_is() -> None:
    anew = Reserved(reservation_id=R2, cart_id=CART, quantity=1, expires_at=LATER)
    stock, by_cart = fold(evolve, CREATED, FIVE, HELD, anew), HoldName(cart_id=CART)

    assert stock.holds.find(by_cart, SOON) == R2
    assert stock.holds.find(HoldName(R1), LATER) == R1
    for now, refused in ((NOON, Conflict), (LATER, NotFound)):
        with pytest.raises(refused):
            stock.holds.find(by_cart, now)


def counts(*events: Event) -> tuple[int, int, int, int]:
    stock = fold(evolve, *events)
    return stock.total, stock.available, stock.reserved, stock.allocated


def test_a_game_is_put_on_the_books_once() -> None:
    when(lambda: inventory.create(None, GAME, SELLER, "CEL-1")).then(CREATED)
    given(evolve, CREATED).when(lambda s: inventory.create(s, GAME, SELLER, "CEL-1")).then_nothing()


def test_each_hold_moves_units_from_one_count_to_another() -> None:
    assert counts(CREATED, FIVE) == (5, 5, 0, 0)
    assert counts(CREATED, FIVE, HELD) == (5, 2, 3, 0)
    assert counts(CREATED, FIVE, HELD, HARD) == (5, 2, 0, 3)
    assert counts(CREATED, FIVE, HELD, HARD, SOLD) == (2, 2, 0, 0)
    assert counts(
        CREATED, FIVE, HELD, ReservationReleased(reservation_id=R1, reason="removed")
    ) == (5, 5, 0, 0)
    assert counts(CREATED, FIVE, HELD, ReservationExpired(reservation_id=R1)) == (5, 5, 0, 0)


def test_what_is_there_can_be_held_and_no_more() -> None:
    held = Reserved(reservation_id=R2, cart_id=CART, quantity=2, expires_at=LATER)
    given(evolve, CREATED, FIVE, HELD).when(lambda s: reserve(s, 2)).then(held)
    refusal = (
        given(evolve, CREATED, FIVE, HELD)
        .when(lambda s: reserve(s, 3))
        .then_refused(Conflict, "insufficient_stock")
    )
    assert refusal.extra == {"available": 2, "product_id": str(GAME)}


def test_a_hold_past_its_time_is_free_again_though_nobody_said_so() -> None:
    held = Reserved(reservation_id=R2, cart_id=CART, quantity=5, expires_at=LATER)
    given(evolve, CREATED, FIVE, HELD).when(lambda s: reserve(s, 5, now=SOON)).then(
        ReservationExpired(reservation_id=R1), held
    )
    given(evolve, CREATED, FIVE, HELD).when(lambda s: allocate(s, now=SOON)).then_refused(
        Conflict, "reservation_expired"
    )


@pytest.mark.parametrize("quantity", [0, -1, 1_000_001])
def test_quantities_make_sense(quantity: int) -> None:
    given(evolve, CREATED, FIVE).when(lambda s: reserve(s, quantity)).then_refused(
        Invalid, "invalid_quantity"
    )


def test_a_hold_grows_and_shrinks_and_lasts_longer() -> None:
    def change(quantity: int) -> "object":
        return given(evolve, CREATED, FIVE, HELD).when(
            lambda s: inventory.change(s, R1, quantity, LATER, now=NOON)
        )

    change(5).then(ReservationChanged(reservation_id=R1, quantity=5, expires_at=LATER))  # type: ignore[attr-defined]
    change(1).then(ReservationChanged(reservation_id=R1, quantity=1, expires_at=LATER))  # type: ignore[attr-defined]
    change(6).then_refused(Conflict, "insufficient_stock")  # type: ignore[attr-defined]


def test_a_cart_hands_its_hold_to_the_order() -> None:
    given(evolve, CREATED, FIVE, HELD).when(allocate).then(HARD)
    given(evolve, CREATED, FIVE, HELD, HARD).when(allocate).then_refused(
        Conflict, "reservation_allocated"
    )


def test_an_allocation_is_sold_or_released() -> None:
    given(evolve, CREATED, FIVE, HELD, HARD).when(lambda s: inventory.confirm_sale(s, R1)).then(
        SOLD
    )
    given(evolve, CREATED, FIVE, HELD).when(lambda s: inventory.confirm_sale(s, R1)).then_refused(
        Conflict, "not_allocated"
    )
    given(evolve, CREATED, FIVE, HELD, HARD, SOLD).when(
        lambda s: inventory.confirm_sale(s, R1)
    ).then_refused(NotFound, "reservation_not_found")
    given(evolve, CREATED, FIVE, HELD, HARD).when(
        lambda s: inventory.release(s, R1, "cancelled")
    ).then(ReservationReleased(reservation_id=R1, reason="cancelled"))


def test_what_was_sold_and_never_left_is_in_stock_again() -> None:
    other = Reserved(reservation_id=R2, cart_id=CART, quantity=1, expires_at=LATER)
    given(evolve, CREATED, FIVE, HELD, HARD, SOLD, other).when(
        lambda s: inventory.restock(s, 3)
    ).then(StockUpdated(total=5, available=4))


def test_a_hard_hold_outlives_its_carts_time() -> None:
    given(evolve, CREATED, FIVE, HELD, HARD).when(
        lambda s: inventory.expire(s, LATER)
    ).then_nothing()


def test_a_hard_hold_of_another_system_ends_when_its_time_is_over() -> None:
    expired, moment = ReservationExpired(reservation_id=R1), timedelta(microseconds=1)
    held = given(evolve, CREATED, FIVE, HELD, HARD)
    held.when(lambda s: inventory.expire(s, LATER - moment, foreign=[R1])).then_nothing()
    held.when(lambda s: inventory.expire(s, LATER, foreign=[R1])).then(expired)
    assert counts(CREATED, FIVE, HELD, HARD, expired) == (5, 5, 0, 0)


def test_stock_is_never_counted_below_what_is_held() -> None:
    given(evolve, CREATED, FIVE, HELD).when(lambda s: set_total(s, 3)).then(
        StockUpdated(total=3, available=0)
    )
    refusal = (
        given(evolve, CREATED, FIVE, HELD)
        .when(lambda s: set_total(s, 2))
        .then_refused(Conflict, "stock_below_commitments")
    )
    assert refusal.extra == {"committed": 3}
    given(evolve, CREATED, FIVE).when(lambda s: set_total(s, -1)).then_refused(
        Invalid, "invalid_quantity"
    )


LOW = LowStock(available=2, threshold=2, at=NOON)


def allocated(*events: Event, now: datetime = NOON) -> list[LowStock]:
    """The events of an order of three units."""
    stock = fold(evolve, CREATED, FIVE, HELD, *events)
    return [
        event
        for event in inventory.allocate(stock, R1, ORDER, LATER, now=now, threshold=2)
        if isinstance(event, LowStock)
    ]


def test_what_lies_in_carts_makes_no_stock_low() -> None:
    given(evolve, CREATED, FIVE).when(lambda s: reserve(s, 5)).then(
        Reserved(reservation_id=R2, cart_id=CART, quantity=5, expires_at=LATER)
    )
    assert allocated() == [LOW]


def test_low_stock_is_reported_once_per_crossing_and_hour() -> None:
    low_before = LowStock(available=2, threshold=2, at=NOON - timedelta(hours=1))
    a_moment_later = msgspec.structs.replace(low_before, at=NOON - timedelta(minutes=59))
    assert [each.quiet for each in allocated(low_before)] == [False]
    assert [each.quiet for each in allocated(a_moment_later)] == [True]
    # it had no time then
    assert [each.quiet for each in allocated(LowStock(available=2, threshold=2))] == [False]
    other = Reserved(reservation_id=R2, cart_id=CART, quantity=1, expires_at=LATER)
    low_already = fold(evolve, CREATED, FIVE, HELD, HARD, other)
    more = inventory.allocate(low_already, R2, ORDER, LATER, now=NOON, threshold=2)
    assert [type(each) for each in more] == [Allocated]


def test_low_stock_is_reported_when_stock_is_counted() -> None:
    given(evolve, CREATED, FIVE).when(lambda s: inventory.set_total(s, 2, 2, now=NOON)).then(
        StockUpdated(total=2, available=2), LOW
    )


class Shelf(RuleBasedStateMachine):
    """Random carts and orders on one stock item."""

    reservations = st.sampled_from([an_id(f"r{n}") for n in range(5)])

    @initialize(total=st.integers(0, 20))
    def begin(self, total: int) -> None:
        self.now = NOON
        self.sold = 0
        self.counted = total
        begun = CREATED, StockUpdated(total=total, available=total)
        self.stock = fold(evolve, *begun)
        self.history = History().happened(SHELF, *begun)

    def happen(self, decide: Callable[[Stock], list[Event]]) -> list[Event]:
        try:
            events: list[Event] = decide(self.stock)
        except Refused:
            return []
        for event in events:
            self.stock = evolve(self.stock, event) or self.stock
        self.history.happened(SHELF, *events)
        return events

    @rule(reservation=reservations, quantity=st.integers(-1, 8))
    def reserve(self, reservation: UUID, quantity: int) -> None:
        if reservation not in self.stock.reservations:
            until = self.now + timedelta(minutes=15)
            self.happen(
                lambda s: inventory.reserve(s, reservation, CART, quantity, until, now=self.now)
            )

    @rule(reservation=reservations, quantity=st.integers(-1, 8))
    def change(self, reservation: UUID, quantity: int) -> None:
        until = self.now + timedelta(minutes=15)
        self.happen(lambda s: inventory.change(s, reservation, quantity, until, now=self.now))

    @rule(reservation=reservations)
    def allocate(self, reservation: UUID) -> None:
        until = self.now + timedelta(minutes=30)
        self.happen(
            lambda s: inventory.allocate(s, reservation, ORDER, until, now=self.now, threshold=3)
        )

    @rule(reservation=reservations)
    def sell(self, reservation: UUID) -> None:
        events = self.happen(lambda s: inventory.confirm_sale(s, reservation))
        self.sold += sum(e.quantity for e in events if isinstance(e, ReservationFulfilled))

    @rule(reservation=reservations)
    def release(self, reservation: UUID) -> None:
        self.happen(lambda s: inventory.release(s, reservation, "given up"))

    @rule(total=st.integers(-1, 20))
    def count(self, total: int) -> None:
        events = self.happen(lambda s: inventory.set_total(s, total, 3, now=self.now))
        if any(isinstance(event, StockUpdated) for event in events):
            self.counted = total + self.sold

    @rule(minutes=st.integers(1, 20))
    def time_passes(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)
        self.happen(lambda s: inventory.expire(s, self.now))

    @invariant()
    def nothing_is_held_twice(self) -> None:
        if not hasattr(self, "sold"):
            return
        stock = self.stock
        assert min(stock.available, stock.reserved, stock.allocated) >= 0
        assert stock.available + stock.reserved + stock.allocated == stock.total
        assert stock.total + self.sold == self.counted
        by_kind = {
            kind: sum(r.quantity for r in stock.reservations.values() if r.kind == kind)
            for kind in ("SOFT", "HARD")
        }
        assert (stock.reserved, stock.allocated) == (by_kind["SOFT"], by_kind["HARD"])

    @invariant()
    def what_is_kept_of_it_reads_as_it_is(self) -> None:
        if hasattr(self, "stock"):
            kept = msgspec.json.encode(self.stock, enc_hook=plain)
            assert msgspec.json.decode(kept, type=inventory.Stock) == self.stock

    @invariant()
    def the_read_model_has_the_same_holds(self) -> None:
        if not hasattr(self, "stock"):
            return
        rows = {row.hold_id: row for row in StockItems().fold(self.history.events).all()}
        item = rows.pop(SHELF)
        sums = self.stock.total, self.stock.available, self.stock.reserved, self.stock.allocated
        assert (item.total, item.available, item.reserved, item.allocated) == sums
        assert {
            key: (row.reserved, row.allocated, row.expires_at) for key, row in rows.items()
        } == {
            key: (held.quantity, 0, held.expires_at)
            if held.kind == "SOFT"
            else (0, held.quantity, held.expires_at)
            for key, held in self.stock.reservations.items()
        }


TestShelf = Shelf.TestCase
TestShelf.settings = settings(max_examples=60, stateful_step_count=30)
