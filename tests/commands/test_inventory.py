"""Commands on stock."""

from datetime import timedelta
from unittest.mock import ANY

import pytest

from commands.caller import Caller
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Stale
from domain.ids import stock_id
from domain.inventory import (
    Allocated,
    LowStock,
    ReservationExpired,
    ReservationFulfilled,
    ReservationReleased,
    Reserved,
    StockUpdated,
)
from domain.reservations import HoldName
from eventstore.log import IdempotencyKey
from tests.support.commands import ADMIN, RULES, Shop
from tests.support.given_when_then import NOON, an_id
from tests.support.past import ANA, BOARD, GAME, SELLER, game

STOCK, CART, HOLD, THEIRS = (
    stock_id(BOARD),
    an_id("a cart elsewhere"),
    an_id("hold"),
    an_id("an order elsewhere"),
)
SERVICE = Caller("service:till", an_id("till"), "SERVICE")
SOFT = Reserved(reservation_id=HOLD, cart_id=CART, quantity=2, expires_at=NOON + RULES.cart_ttl)
HARD = Allocated(
    reservation_id=HOLD, order_id=THEIRS, quantity=2, expires_at=NOON + RULES.allocation_ttl
)
SHELF = game(BOARD, "PHYSICAL", units=10)
BY_ID = HoldName(reservation_id=HOLD)


async def test_its_seller_counts_the_stock(shop: Shop) -> None:
    counted = shop.given(SHELF).when(shop.inventory.set_total(SELLER, BOARD, 20))
    made = await counted.then(StockUpdated(total=20, available=20))
    assert (made.value.stock.total, made.value.version) == (20, 3)


async def test_what_is_held_cannot_be_counted_away(shop: Shop) -> None:
    held = shop.given(SHELF, {STOCK: [SOFT]})
    await held.when(shop.inventory.set_total(SELLER, BOARD, 1)).then_refused(
        Conflict, "stock_below_commitments", committed=2
    )
    await shop.when(shop.inventory.set_total(SELLER, BOARD, 3)).then(
        StockUpdated(total=3, available=1), LowStock(available=3, threshold=3, at=NOON)
    )


async def test_holds_past_their_time_give_way_to_the_count(shop: Shop) -> None:
    await shop.append(SHELF)
    await shop.append({STOCK: [SOFT]})
    shop.clock.advance(RULES.cart_ttl)
    await shop.when(shop.inventory.set_total(SELLER, BOARD, 1)).then(
        ReservationExpired(reservation_id=HOLD),
        StockUpdated(total=1, available=1),
        LowStock(available=1, threshold=3, at=NOON + RULES.cart_ttl),
    )


async def test_a_count_at_another_version_is_refused(shop: Shop) -> None:
    there = shop.given(SHELF)
    await there.when(shop.inventory.set_total(SELLER, BOARD, 5, 1)).then_refused(
        Conflict, "version_conflict", version=2
    )
    await shop.when(shop.inventory.set_total(SELLER, BOARD, 5, expected_version=1)).then_refused(
        Stale, "version_mismatch", version=2
    )


async def test_others_do_not_count_nor_is_what_is_not_shipped(shop: Shop) -> None:
    there = shop.given(SHELF, game())
    await there.when(shop.inventory.set_total(ANA, BOARD, 5)).then_refused(Forbidden, "not_yours")
    await shop.when(shop.inventory.set_total(SELLER, GAME, 5)).then_refused(Invalid, "not_physical")
    await shop.when(shop.inventory.set_total(SELLER, an_id("?"), 5)).then_refused(
        NotFound, "product_not_found"
    )
    await shop.when(shop.inventory.set_total(SELLER, BOARD, -1)).then_refused(
        Invalid, "invalid_quantity"
    )


async def test_another_system_holds_allocates_and_sells(shop: Shop) -> None:
    held = shop.given(SHELF).when(shop.inventory.reserve(SERVICE, BOARD, 2, CART))
    made = await held.then(
        Reserved(reservation_id=ANY, cart_id=CART, quantity=2, expires_at=NOON + RULES.cart_ttl)
    )
    by_cart = HoldName(cart_id=CART, quantity=2)
    await shop.when(shop.inventory.allocate(SERVICE, BOARD, by_cart, THEIRS)).then(
        Allocated(
            reservation_id=made.value,
            order_id=THEIRS,
            quantity=2,
            expires_at=NOON + RULES.allocation_ttl,
        )
    )
    await shop.when(shop.inventory.confirm_sale(SERVICE, BOARD, HoldName(order_id=THEIRS))).then(
        ReservationFulfilled(reservation_id=made.value, order_id=THEIRS, quantity=2)
    )


async def test_no_more_is_held_than_there_is(shop: Shop) -> None:
    wanting = shop.given(SHELF).when(shop.inventory.reserve(SERVICE, BOARD, 11, CART))
    await wanting.then_refused(Conflict, "insufficient_stock", available=10, product_id=str(BOARD))
    with pytest.raises(Forbidden, match="role_required"):
        await shop.inventory.reserve(SELLER, BOARD, 1, CART)


async def test_what_is_not_on_sale_is_not_held(shop: Shop) -> None:
    draft = shop.given(game(BOARD, "PHYSICAL", status="DRAFT"))
    await draft.when(shop.inventory.reserve(SERVICE, BOARD, 1, CART)).then_refused(
        Conflict, "game_unavailable"
    )


async def test_under_a_key_it_is_held_once(shop: Shop) -> None:
    await shop.append(SHELF)
    once = IdempotencyKey(an_id("key"))
    made = await shop.inventory.reserve(SERVICE, BOARD, 2, CART, once=once)
    done = await shop.when(shop.inventory.reserve(SERVICE, BOARD, 2, CART, once=once)).then_known()
    assert done.result_ids == {"reservation_id": str(made.value), "product_id": str(BOARD)}


async def test_a_hold_is_given_up(shop: Shop) -> None:
    held = shop.given(SHELF, {STOCK: [SOFT]})
    await held.when(shop.inventory.release(ADMIN, BOARD, BY_ID, "by phone")).then(
        ReservationReleased(reservation_id=HOLD, reason="by phone")
    )
    await shop.when(shop.inventory.release(ADMIN, BOARD, BY_ID, "again")).then_refused(
        NotFound, "reservation_not_found"
    )


async def test_only_what_is_allocated_is_sold_and_only_what_is_in_time_allocated(
    shop: Shop,
) -> None:
    held = shop.given(SHELF, {STOCK: [SOFT]})
    await held.when(shop.inventory.confirm_sale(SERVICE, BOARD, BY_ID)).then_refused(
        Conflict, "not_allocated"
    )
    wrong = HoldName(reservation_id=HOLD, quantity=3)
    await shop.when(shop.inventory.allocate(SERVICE, BOARD, wrong, THEIRS)).then_refused(
        Conflict, "quantity_mismatch", quantity=2
    )
    shop.clock.advance(RULES.cart_ttl)
    await shop.when(shop.inventory.allocate(SERVICE, BOARD, BY_ID, THEIRS)).then_refused(
        Conflict, "reservation_expired"
    )


async def test_a_deadline_ends_what_is_past_its_time_and_nothing_else(shop: Shop) -> None:
    held = shop.given(SHELF, {STOCK: [SOFT]})
    await held.when(shop.inventory.expire(SERVICE, STOCK)).then_nothing()
    shop.clock.advance(RULES.cart_ttl)
    await shop.when(shop.inventory.expire(SERVICE, STOCK)).then(
        ReservationExpired(reservation_id=HOLD)
    )


async def test_an_allocation_of_another_system_ends_by_its_deadline_too(shop: Shop) -> None:
    held = shop.given(SHELF, {STOCK: [SOFT, HARD]})
    await held.when(shop.inventory.allocate(SERVICE, BOARD, BY_ID, THEIRS)).then_refused(
        Conflict, "reservation_allocated"
    )
    shop.clock.advance(RULES.allocation_ttl + timedelta(seconds=1))
    await shop.when(shop.inventory.expire(SERVICE, STOCK)).then(
        ReservationExpired(reservation_id=HOLD)
    )
