"""Commands on carts, with the stock that they reserve and the order that they become."""

from collections.abc import Sequence
from datetime import timedelta
from unittest.mock import ANY
from uuid import UUID

import msgspec
import pytest

from commands.caller import SYSTEM
from commands.carts import CartChanged
from commands.order_saga import OrderIds
from domain.cart import (
    CartAbandoned,
    CartCreated,
    CheckoutInitiated,
    ExpiryShown,
    ItemAdded,
    ItemChanged,
    ItemRemoved,
    ItemRepriced,
)
from domain.cart_review import LineChange
from domain.catalog import GameRetired, GameUpdated, Kind, Price
from domain.claims import ClaimReleased, ClaimTaken
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Stale
from domain.events import Event
from domain.fulfilment import ShipmentCreated
from domain.identity import UserDeactivated
from domain.ids import claim_id, stock_id
from domain.inventory import (
    Allocated,
    LowStock,
    ReservationChanged,
    ReservationExpired,
    ReservationReleased,
    Reserved,
    StockUpdated,
)
from domain.orders import OrderCreated
from domain.payments import PaymentRequested
from eventstore.log import IdempotencyKey
from tests.support.commands import RULES, Shop, Streams
from tests.support.given_when_then import NOON, an_id
from tests.support.past import (
    ADDRESS,
    ANA,
    ANA_ID,
    BEN,
    BEN_ID,
    BOARD,
    CARD,
    GAME,
    SELLER_ID,
    account,
    game,
    order,
)

CART, ITEM, HOLD = an_id("cart"), an_id("item"), an_id("hold")
CLAIM, STOCK = claim_id("cart", ANA_ID), stock_id(BOARD)
UNTIL, END = NOON + RULES.cart_ttl, NOON + RULES.cart_max
CREATED = CartCreated(buyer_id=ANA_ID, currency="EUR", expires_at=UNTIL, ends_at=END)
CLAIMED = ClaimTaken(kind="cart", holder_id=ANY)
SHELF = game(BOARD, "PHYSICAL", units=10)
HELD = Reserved(reservation_id=HOLD, cart_id=CART, quantity=2, expires_at=UNTIL, buyer_id=ANA_ID)


def added(
    kind: Kind, quantity: int = 1, *, item_id: UUID = ANY, hold: UUID | None = None
) -> ItemAdded:
    return ItemAdded(
        item_id=item_id,
        game_id=GAME if kind == "DIGITAL" else BOARD,
        seller_id=SELLER_ID,
        sku=f"SKU-{kind}",
        title=f"A {kind} game",
        quantity=quantity,
        unit_price_cents=1999,
        expires_at=UNTIL,
        reservation_id=hold,
    )


def cart(*events: Event, stock: Sequence[Event] = ()) -> Streams:
    """Ana's cart."""
    return {
        CLAIM: [ClaimTaken(kind="cart", holder_id=CART)],
        CART: [CREATED, *events],
        **({STOCK: stock} if stock else {}),
    }


BOARDS = cart(added("PHYSICAL", 2, item_id=ITEM, hold=HOLD), stock=[HELD])
CHESS = cart(added("DIGITAL", item_id=ITEM))


# -- putting in ------------------------------------------------------------------------------------


async def test_the_first_game_opens_the_cart(shop: Shop) -> None:
    adding = shop.given(account(ANA_ID), game()).when(shop.carts.add(ANA, GAME, 1))
    await adding.then(CLAIMED, CREATED, added("DIGITAL"))


async def test_what_is_shipped_is_held(shop: Shop) -> None:
    adding = shop.given(account(ANA_ID), SHELF).when(shop.carts.add(ANA, BOARD, 2))
    await adding.then(
        CLAIMED,
        CREATED,
        added("PHYSICAL", 2, hold=ANY),
        Reserved(reservation_id=ANY, cart_id=ANY, quantity=2, expires_at=UNTIL, buyer_id=ANA_ID),
    )


async def test_each_game_makes_the_cart_and_what_it_holds_last_longer(shop: Shop) -> None:
    for streams in (account(ANA_ID), SHELF, game(), BOARDS):
        await shop.append(streams)
    shop.clock.advance(timedelta(minutes=5))
    later = UNTIL + timedelta(minutes=5)
    await shop.when(shop.carts.add(ANA, GAME, 1)).then(
        ReservationChanged(reservation_id=HOLD, quantity=2, expires_at=later),
        msgspec.structs.replace(added("DIGITAL"), expires_at=later),
    )


async def test_a_digital_game_is_bought_once_and_singly(shop: Shop) -> None:
    there = shop.given(account(ANA_ID), game(), CHESS)
    await there.when(shop.carts.add(ANA, GAME, 1)).then_refused(Conflict, "already_in_cart")
    fresh = shop.given(account(BEN_ID))
    await fresh.when(shop.carts.add(BEN, GAME, 2)).then_refused(Invalid, "invalid_quantity")


@pytest.mark.parametrize(("paid", "code"), [(True, "already_owned"), (False, "order_pending")])
async def test_what_was_bought_is_not_put_in(shop: Shop, paid: bool, code: str) -> None:
    bought = shop.given(account(ANA_ID), game(), order(paid=paid))
    await bought.when(shop.carts.add(ANA, GAME, 1)).then_refused(Conflict, code)


async def test_no_more_is_put_in_than_there_is_or_one_buyer_may_have(shop: Shop) -> None:
    few = shop.given(account(ANA_ID), SHELF)
    await few.when(shop.carts.add(ANA, BOARD, 11)).then_refused(
        Conflict, "insufficient_stock", available=10, product_id=str(BOARD)
    )
    many = shop.given({STOCK: [StockUpdated(total=50, available=50)]})
    await many.when(shop.carts.add(ANA, BOARD, 11)).then_refused(
        Conflict, "quantity_limit", limit=10
    )
    await shop.when(shop.carts.add(ANA, BOARD, 0)).then_refused(Invalid, "invalid_quantity")


async def test_what_is_not_on_sale_is_not_put_in(shop: Shop) -> None:
    draft = shop.given(account(ANA_ID), game(status="DRAFT"))
    await draft.when(shop.carts.add(ANA, GAME, 1)).then_refused(NotFound, "product_not_found")
    retired = shop.given(SHELF, {BOARD: [GameRetired()]})
    await retired.when(shop.carts.add(ANA, BOARD, 1)).then_refused(Conflict, "game_unavailable")


async def test_a_cart_is_in_one_currency(shop: Shop) -> None:
    dollars: Streams = {GAME: [GameUpdated(prices=(Price("*", 1999, "USD"),))]}
    mixed = shop.given(account(ANA_ID), SHELF, game(), BOARDS, dollars)
    await mixed.when(shop.carts.add(ANA, GAME, 1)).then_refused(
        Conflict, "currency_mismatch", cart_currency="EUR"
    )


async def test_a_closed_account_puts_nothing_in(shop: Shop) -> None:
    closed = shop.given(account(ANA_ID), game(), {ANA_ID: [UserDeactivated()]})
    await closed.when(shop.carts.add(ANA, GAME, 1)).then_refused(Forbidden, "user_inactive")


async def test_under_a_key_it_is_put_in_once(shop: Shop) -> None:
    await shop.append(account(ANA_ID))
    await shop.append(game())
    once = IdempotencyKey(an_id("key"))
    made = await shop.carts.add(ANA, GAME, 1, once=once)
    done = await shop.when(shop.carts.add(ANA, GAME, 1, once=once)).then_known()
    assert done.result_ids == {"cart_id": str(made.value), "item_id": ANY}


# -- changing, taking out --------------------------------------------------------------------------


async def test_another_quantity_is_held(shop: Shop) -> None:
    changing = shop.given(account(ANA_ID), SHELF, BOARDS).when(
        shop.carts.change(ANA, ITEM, 5, expected_version=2)
    )
    await changing.then(
        ItemChanged(item_id=ITEM, quantity=5, expires_at=UNTIL),
        ReservationChanged(reservation_id=HOLD, quantity=5, expires_at=UNTIL),
    )


async def test_more_of_it_has_the_price_of_now(shop: Shop) -> None:
    dearer: Streams = {BOARD: [GameUpdated(prices=(Price("*", 2500, "EUR"),))]}
    await (
        shop.given(account(ANA_ID), SHELF, BOARDS, dearer)
        .when(shop.carts.change(ANA, ITEM, 3))
        .then(
            ItemRepriced(item_id=ITEM, unit_price_cents=2500, expires_at=UNTIL),
            ItemChanged(item_id=ITEM, quantity=3, expires_at=UNTIL),
            ReservationChanged(reservation_id=HOLD, quantity=3, expires_at=UNTIL),
        )
    )


async def test_who_saw_another_version_changes_nothing(shop: Shop) -> None:
    there = shop.given(account(ANA_ID), SHELF, BOARDS)
    await there.when(shop.carts.change(ANA, ITEM, 5, expected_version=1)).then_refused(
        Stale, "version_mismatch", version=2
    )
    await shop.when(shop.carts.remove(ANA, ITEM, expected_version=1)).then_refused(
        Stale, "version_mismatch", version=2
    )
    await shop.when(shop.carts.discard(ANA, expected_version=1)).then_refused(
        Stale, "version_mismatch", version=2
    )


async def test_a_line_that_is_not_there_is_not_changed(shop: Shop) -> None:
    await (
        shop.given(account(ANA_ID))
        .when(shop.carts.change(ANA, ITEM, 1))
        .then_refused(NotFound, "item_not_found")
    )
    there = shop.given(SHELF, BOARDS)
    await there.when(shop.carts.remove(ANA, an_id("?"))).then_refused(NotFound, "item_not_found")
    await shop.when(shop.carts.change(ANA, ITEM, 0)).then_refused(Invalid, "invalid_quantity")


async def test_what_is_taken_out_is_free_again(shop: Shop) -> None:
    await (
        shop.given(account(ANA_ID), SHELF, BOARDS)
        .when(shop.carts.remove(ANA, ITEM))
        .then(
            ItemRemoved(item_id=ITEM, expires_at=UNTIL),
            ReservationReleased(reservation_id=HOLD, reason="removed from the cart"),
        )
    )


# -- the end of a cart -----------------------------------------------------------------------------


async def test_a_cart_is_thrown_away_with_what_it_holds(shop: Shop) -> None:
    await (
        shop.given(account(ANA_ID), SHELF, BOARDS)
        .when(shop.carts.discard(ANA))
        .then(
            CartAbandoned(reason="discarded"),
            ReservationReleased(reservation_id=HOLD, reason="cart thrown away"),
            ClaimReleased(reason="cart thrown away"),
        )
    )
    await shop.when(shop.carts.discard(ANA)).then_nothing()


async def test_the_deadline_ends_a_cart_that_is_past_its_time(shop: Shop) -> None:
    await (
        shop.given(account(ANA_ID), SHELF, BOARDS)
        .when(shop.carts.expire(SYSTEM, CART))
        .then_nothing()
    )
    shop.clock.advance(RULES.cart_ttl)
    await shop.when(shop.carts.expire(SYSTEM, CART)).then(
        CartAbandoned(reason="expired"),
        ReservationExpired(reservation_id=HOLD),
        ClaimReleased(reason="expired"),
    )


async def test_a_cart_past_its_time_is_as_good_as_none_and_shown_once(shop: Shop) -> None:
    for streams in (account(ANA_ID), game(), CHESS):
        await shop.append(streams)
    shop.clock.advance(RULES.cart_ttl)
    await shop.when(shop.carts.remove(ANA, ITEM)).then_refused(NotFound, "item_not_found")
    shown = await shop.when(shop.carts.show_expired(ANA, CART)).then(
        CartAbandoned(reason="expired"), ClaimReleased(reason="expired"), ExpiryShown()
    )
    assert shown.value is not None
    assert list(shown.value.items) == [ITEM]
    assert (await shop.when(shop.carts.show_expired(ANA, CART)).then_nothing()).value is None


# -- checking out ----------------------------------------------------------------------------------


async def test_checked_out_it_is_an_order_that_holds_the_stock(shop: Shop) -> None:
    checkout = shop.given(account(ANA_ID), SHELF, BOARDS).when(
        shop.carts.check_out(ANA, CARD, ADDRESS)
    )
    made = (await checkout.then(*ordered())).value
    assert isinstance(made, OrderIds)
    (placed,) = await shop.log.read_stream(made.order_id)
    assert isinstance(placed.event, OrderCreated)
    assert (placed.event.total_cents, placed.event.shipping_address) == (3998, ADDRESS)
    assert placed.event.expires_at == NOON + RULES.allocation_ttl
    await shop.when(shop.carts.check_out(ANA, CARD, ADDRESS)).then_refused(Conflict, "cart_empty")


def ordered() -> list[Event]:
    until = NOON + RULES.allocation_ttl
    return [
        CheckoutInitiated(order_id=ANY, payment_id=ANY),
        Allocated(reservation_id=HOLD, order_id=ANY, quantity=2, expires_at=until),
        OrderCreated(
            buyer_id=ANA_ID,
            region="BR",
            currency="EUR",
            total_cents=3998,
            provisional=True,
            payment_id=ANY,
            expires_at=until,
            lines=ANY,
            cart_id=CART,
            shipping_address=ADDRESS,
        ),
        ShipmentCreated(order_id=ANY, seller_id=SELLER_ID, lines=ANY),
        PaymentRequested(
            buyer_id=ANA_ID,
            amount_cents=3998,
            currency="EUR",
            expires_at=until,
            order_id=ANY,
            method=CARD,
            payment_id=ANY,
            game_ids=(BOARD,),
        ),
        ClaimReleased(reason="checked out"),
    ]


async def test_what_orders_hold_counts_as_low_stock(shop: Shop) -> None:
    few: Streams = {STOCK: [StockUpdated(total=5, available=3)]}
    checkout = shop.given(account(ANA_ID), SHELF, BOARDS, few).when(
        shop.carts.check_out(ANA, CARD, ADDRESS)
    )
    await checkout.then(*ordered(), LowStock(available=3, threshold=3, at=NOON))


async def test_another_price_is_told_before_anything_is_ordered(shop: Shop) -> None:
    dearer: Streams = {BOARD: [GameUpdated(prices=(Price("*", 2500, "EUR"),))]}
    checkout = shop.given(account(ANA_ID), SHELF, BOARDS, dearer).when(
        shop.carts.check_out(ANA, CARD, ADDRESS)
    )
    told = await checkout.then(
        ItemRepriced(item_id=ITEM, unit_price_cents=2500, expires_at=UNTIL),
        ReservationChanged(reservation_id=HOLD, quantity=2, expires_at=UNTIL),
    )
    change = LineChange(ITEM, "price", 1999, 2500, was_currency="EUR", currency="EUR")
    assert told.value == CartChanged(CART, [change])


async def test_what_is_gone_is_told_before_anything_is_ordered(shop: Shop) -> None:
    retired = shop.given(account(ANA_ID), game(), CHESS, {GAME: [GameRetired()]})
    told = await retired.when(shop.carts.check_out(ANA, CARD, None)).then(
        ItemRemoved(item_id=ITEM, expires_at=UNTIL)
    )
    assert told.value == CartChanged(CART, [LineChange(ITEM, "unavailable", 1, 0)])


async def test_a_physical_game_needs_an_address(shop: Shop) -> None:
    checkout = shop.given(account(ANA_ID), SHELF, BOARDS).when(
        shop.carts.check_out(ANA, CARD, None)
    )
    await checkout.then_refused(Invalid, "shipping_address_required")


async def test_an_empty_cart_and_none_are_the_same(shop: Shop) -> None:
    await (
        shop.given(account(ANA_ID))
        .when(shop.carts.check_out(ANA, CARD, None))
        .then_refused(Conflict, "cart_empty")
    )
    await (
        shop.given(cart())
        .when(shop.carts.check_out(ANA, CARD, None))
        .then_refused(Conflict, "cart_empty")
    )


async def test_under_a_key_it_is_checked_out_once(shop: Shop) -> None:
    for streams in (account(ANA_ID), game(), CHESS):
        await shop.append(streams)
    once = IdempotencyKey(an_id("key"))
    made = (await shop.carts.check_out(ANA, CARD, None, once=once)).value
    assert isinstance(made, OrderIds)
    done = await shop.when(shop.carts.check_out(ANA, CARD, None, once=once)).then_known()
    assert done.result_ids == {"order_id": str(made.order_id), "payment_id": str(made.payment_id)}
