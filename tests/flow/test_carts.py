"""Carts and the stock that they reserve, on a manual clock."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest
import pytest_asyncio

from commands.aggregates import STOCK
from commands.caller import SYSTEM
from commands.carts import CartChanged
from commands.order_saga import OrderIds
from domain.cart_review import LineChange
from domain.errors import Conflict, Forbidden, NotFound
from domain.events import Event
from domain.ids import stock_id
from domain.inventory import Allocated, LowStock, ReservationReleased, Reserved
from domain.reservations import HoldName
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7
from tests.support.shops.manual import ADMIN, BY_WALLET, VISA, Till, open_till, ordered

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADDRESS = {
    "name": "Ann",
    "line1": "1 High Street",
    "city": "Lyon",
    "postal_code": "69001",
    "country": "FR",
}
MINUTE = timedelta(minutes=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def till(
    module_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Till]:
    async with open_till(module_database, tmp_path_factory.mktemp("till")) as opened:
        yield opened


async def test_a_cart_past_its_time_is_none_and_what_it_held_is_free_before_anybody_says_so(
    till: Till,
) -> None:
    ann, bob = await till.person(), await till.person()
    game = await till.physical_game(3)
    cart_id = (await till.commands.carts.add(ann, game, 3)).value
    (item_id,) = (await till.cart(cart_id)).items
    till.clock.advance(15 * MINUTE)

    with pytest.raises(NotFound, match="item_not_found"):
        await till.commands.carts.change(ann, item_id, 1)
    with pytest.raises(Conflict, match="cart_empty"):
        await till.commands.carts.check_out(ann, VISA, ADDRESS)
    await till.commands.carts.add(bob, game, 2)
    assert await till.stock(game) == (3, 1, 2, 0)

    await till.commands.carts.expire(SYSTEM, cart_id)
    assert (await till.cart(cart_id)).status == "EXPIRED"
    assert await till.stock(game) == (3, 1, 2, 0)
    assert (await till.commands.carts.add(ann, game, 1)).value != cart_id


async def test_a_deadline_that_was_put_off_expires_nothing(till: Till) -> None:
    ann, game = await till.person(), await till.physical_game(3)
    cart_id = (await till.commands.carts.add(ann, game, 1)).value
    till.clock.advance(14 * MINUTE)
    await till.commands.carts.add(ann, game, 1)
    till.clock.advance(2 * MINUTE)

    await till.commands.carts.expire(SYSTEM, cart_id)

    assert (await till.cart(cart_id)).status == "ACTIVE"
    assert await till.stock(game) == (3, 1, 2, 0)
    till.clock.advance(13 * MINUTE)
    await till.commands.carts.expire(SYSTEM, cart_id)
    assert await till.stock(game) == (3, 3, 0, 0)


async def test_stock_is_counted_anew_without_the_holds_that_are_past_their_time(till: Till) -> None:
    ann, game = await till.person(), await till.physical_game(3)
    await till.commands.carts.add(ann, game, 3)
    with pytest.raises(Conflict, match="stock_below_commitments"):
        await till.commands.inventory.set_total(ADMIN, game, 1)
    till.clock.advance(15 * MINUTE)

    await till.commands.inventory.set_total(ADMIN, game, 1)

    assert await till.stock(game) == (1, 1, 0, 0)


async def test_an_order_that_nobody_paid_gives_its_stock_back(till: Till) -> None:
    ann, game = await till.person(), await till.physical_game(2)
    cart_id = (await till.commands.carts.add(ann, game, 2)).value
    placed = await ordered(till.commands.carts.check_out(ann, None, ADDRESS))
    assert await till.stock(game) == (2, 0, 0, 2)
    till.clock.advance(30 * MINUTE)

    await till.commands.orders.expire(SYSTEM, placed.order_id)

    assert (await till.order(placed.order_id)).status == "CANCELLED"
    assert (await till.cart(cart_id)).status == "ABANDONED"
    assert await till.stock(game) == (2, 2, 0, 0)


async def test_a_closed_account_orders_nothing_of_what_is_in_its_cart(till: Till) -> None:
    ann, game = await till.person(), await till.physical_game(2)
    cart_id = (await till.commands.carts.add(ann, game, 2)).value
    await till.commands.account_ends.close(ann, ann.person())

    with pytest.raises(Conflict, match="cart_empty"):
        await till.commands.carts.check_out(ann, None, ADDRESS)
    with pytest.raises(Forbidden, match="user_inactive"):
        await till.commands.carts.add(ann, game, 1)

    assert (await till.cart(cart_id)).status == "ABANDONED"
    assert await till.stock(game) == (2, 2, 0, 0)


async def test_a_wallet_without_the_money_leaves_the_cart_as_it_was(till: Till) -> None:
    ann, game = await till.person(), await till.physical_game(2)
    wallet = await till.wallet(ann, 1999)
    cart_id = (await till.commands.carts.add(ann, game, 2)).value

    with pytest.raises(Conflict, match="insufficient_funds"):
        await till.commands.carts.check_out(ann, BY_WALLET, ADDRESS)

    assert (await till.cart(cart_id)).status == "ACTIVE"
    assert await till.stock(game) == (2, 0, 2, 0)
    await till.commands.wallets.add_funds(ADMIN, wallet, 1999, "a gift")
    placed = await ordered(till.commands.carts.check_out(ann, BY_WALLET, ADDRESS))
    await till.settle()
    assert (await till.order(placed.order_id)).status == "CONFIRMED"
    assert (await till.cart(cart_id)).status == "COMPLETED"
    assert await till.stock(game) == (0, 0, 0, 0)
    assert await till.balance(wallet) == 0


async def test_an_order_follows_its_shipment_to_the_end_after_a_refund_of_a_part(
    till: Till,
) -> None:
    ann, game = await till.person(), await till.physical_game(2)
    await till.wallet(ann, 2 * 1999)
    await till.commands.carts.add(ann, game, 2)
    order_id = (await ordered(till.commands.carts.check_out(ann, BY_WALLET, ADDRESS))).order_id
    await till.settle()
    (shipment,) = (await till.order(order_id)).shipment_ids
    statuses = []
    for step in (
        till.commands.orders.refund(ADMIN, order_id, 500, "a dented box"),
        till.commands.shipments.process(ADMIN, shipment),
        till.commands.orders.refund(ADMIN, order_id, 500, "another dent"),
        till.commands.shipments.ship(ADMIN, shipment, "Correios", "BR1"),
        till.commands.shipments.deliver(ADMIN, shipment, None, "it was seen"),
    ):
        await step
        await till.settle()
        statuses.append((await till.order(order_id)).status)

    assert statuses == [
        "PARTIALLY_REFUNDED",
        "PROCESSING",
        "PARTIALLY_REFUNDED",
        "SHIPPED",
        "DELIVERED",
    ]
    completed = [each.env.name for each in await till.core.log.read_stream(order_id)][-1]
    assert completed == "order.completed.v1"


async def test_units_refunded_before_they_were_sent_return_to_stock(till: Till) -> None:
    ann, seller, game = (
        await till.person(),
        await till.person("SELLER"),
        await till.physical_game(5),
    )
    sent = await till.physical_game(5, seller=seller)
    await till.wallet(ann, 4 * 1999)
    for each, quantity in ((game, 1), (sent, 1), (game, 2)):
        await till.commands.carts.add(ann, each, quantity)
    order_id = (await ordered(till.commands.carts.check_out(ann, BY_WALLET, ADDRESS))).order_id
    await till.settle()
    shipment = next(
        line.shipment_id for line in (await till.order(order_id)).lines if line.game_id == sent
    )
    assert shipment is not None
    await till.commands.shipments.process(seller, shipment)
    await till.commands.shipments.ship(seller, shipment, "Correios", "BR1")
    await till.commands.orders.refund(ADMIN, order_id, 1999, "one is dented")
    await till.settle()
    assert await till.stock(game) == (2, 2, 0, 0)

    await till.commands.orders.refund(ADMIN, order_id, None, "so are the others")
    await till.settle()

    assert (await till.order(order_id)).status == "REFUNDED"
    assert await till.stock(game) == (5, 5, 0, 0)
    assert await till.stock(sent) == (4, 4, 0, 0)


async def test_a_line_that_lost_its_hold_is_named_and_does_not_block_the_others(
    till: Till,
) -> None:
    ann, bob = await till.person(), await till.person()
    lost, kept, third = (
        await till.physical_game(2),
        await till.physical_game(5),
        await till.physical_game(5),
    )
    await till.commands.carts.add(ann, lost, 2)
    cart_id = (await till.commands.carts.add(ann, kept, 1)).value
    of_lost, of_kept = (await till.cart(cart_id)).items.values()
    assert of_lost.reservation_id is not None
    await till.commands.inventory.release(
        ADMIN, lost, HoldName(of_lost.reservation_id), "a mistake"
    )
    await till.commands.carts.add(bob, lost, 1)

    await till.commands.carts.add(ann, third, 1)
    await till.commands.carts.change(ann, of_kept.item_id, 3)
    with pytest.raises(Conflict, match="insufficient_stock") as refused:
        await till.commands.carts.change(ann, of_lost.item_id, 2)
    assert refused.value.extra == {"available": 1, "product_id": str(lost)}
    await till.commands.carts.remove(ann, of_kept.item_id)
    assert await till.stock(kept) == (5, 5, 0, 0)

    changed = (await till.commands.carts.check_out(ann, VISA, ADDRESS)).value

    assert isinstance(changed, CartChanged)
    assert changed.changes == [LineChange(of_lost.item_id, "stock", 2, 1)]
    assert await till.stock(lost) == (2, 0, 2, 0)
    assert isinstance((await till.commands.carts.check_out(ann, VISA, ADDRESS)).value, OrderIds)
    assert await till.stock(lost) == (2, 0, 1, 1)


async def test_a_cart_that_is_touched_for_ever_holds_for_an_hour_at_most(till: Till) -> None:
    ann, bob, game = await till.person(), await till.person(), await till.physical_game(3)
    cart_id = (await till.commands.carts.add(ann, game, 2)).value
    (item_id,) = (await till.cart(cart_id)).items
    for quantity in (3, 2, 3, 2, 3, 2, 3):
        till.clock.advance(8 * MINUTE)
        await till.commands.carts.change(ann, item_id, quantity)
    assert await till.stock(game) == (3, 0, 3, 0)
    till.clock.advance(4 * MINUTE)

    with pytest.raises(NotFound, match="item_not_found"):
        await till.commands.carts.change(ann, item_id, 2)
    await till.commands.carts.add(bob, game, 3)
    await till.commands.carts.expire(SYSTEM, cart_id)

    assert (await till.cart(cart_id)).status == "EXPIRED"
    assert await till.stock(game) == (3, 0, 3, 0)


async def test_a_buyer_holds_so_many_of_a_game_at_a_time_in_cart_and_unpaid_orders(
    till: Till,
) -> None:
    ann, bob, game = await till.person(), await till.person(), await till.physical_game(50)
    await till.commands.carts.add(ann, game, 6)
    placed = await ordered(till.commands.carts.check_out(ann, None, ADDRESS))

    for quantity in (5, 40):
        with pytest.raises(Conflict, match="quantity_limit") as refused:
            await till.commands.carts.add(ann, game, quantity)
        assert refused.value.extra == {"limit": 10, "product_id": str(game)}
    cart_id = (await till.commands.carts.add(ann, game, 3)).value
    (item_id,) = (await till.cart(cart_id)).items
    await till.commands.carts.add(ann, game, 1)
    with pytest.raises(Conflict, match="quantity_limit"):
        await till.commands.carts.change(ann, item_id, 4)
    await till.commands.carts.add(bob, game, 10)
    await till.commands.orders.cancel(ann, placed.order_id)

    await till.commands.carts.change(ann, item_id, 9)
    assert await till.stock(game) == (50, 30, 20, 0)


async def test_a_seller_who_left_meanwhile_sells_nothing_any_more(till: Till) -> None:
    ann, seller = await till.person(), await till.person("SELLER")
    sold, other = await till.physical_game(5, seller=seller), await till.physical_game(5)
    cart_id = (await till.commands.carts.add(ann, sold, 2)).value
    await till.commands.carts.add(ann, other, 1)
    of_sold, _ = (await till.cart(cart_id)).items
    digital = await till.game(seller=seller)
    await till.commands.account_ends.close(seller, seller.person())

    for refused in (
        lambda: till.commands.carts.change(ann, of_sold, 3),
        lambda: till.commands.carts.add(ann, sold, 1),
        lambda: till.commands.orders.place(ann, digital, VISA),
    ):
        with pytest.raises(Conflict, match="game_unavailable"):
            await refused()
    changed = (await till.commands.carts.check_out(ann, VISA, ADDRESS)).value

    assert isinstance(changed, CartChanged)
    assert changed.changes == [LineChange(of_sold, "unavailable", 2, 0)]
    assert await till.stock(sold) == (5, 5, 0, 0)
    assert isinstance((await till.commands.carts.check_out(ann, VISA, ADDRESS)).value, OrderIds)
    assert await till.stock(other) == (5, 4, 0, 1)


async def test_the_holds_that_one_game_lost_on_several_lines_are_shared_out_in_their_order(
    till: Till,
) -> None:
    ann, bob, game = await till.person(), await till.person(), await till.physical_game(5)
    await till.commands.carts.add(ann, game, 2)
    cart_id = (await till.commands.carts.add(ann, game, 3)).value
    first, second = (await till.cart(cart_id)).items.values()
    for line in (first, second):
        assert line.reservation_id is not None
        await till.commands.inventory.release(
            ADMIN, game, HoldName(line.reservation_id), "a mistake"
        )
    await till.commands.carts.add(bob, game, 2)

    changed = (await till.commands.carts.check_out(ann, VISA, ADDRESS)).value

    assert isinstance(changed, CartChanged)
    assert changed.changes == [LineChange(second.item_id, "stock", 3, 1)]
    assert await till.stock(game) == (5, 0, 5, 0)


async def test_low_stock_is_reported_when_ordered_not_while_in_carts(
    till: Till,
) -> None:
    ann, game = await till.person(), await till.physical_game(7)

    async def told() -> list[tuple[int, bool]]:
        events = await till.core.log.read_stream(stock_id(game))
        return [
            (each.event.available, each.event.quiet)
            for each in events
            if isinstance(each.event, LowStock)
        ]

    for _ in range(3):
        cart_id = (await till.commands.carts.add(ann, game, 4)).value
        for item_id in list((await till.cart(cart_id)).items):
            await till.commands.carts.remove(ann, item_id)
    assert await told() == []
    for expected in ([(3, False)], [(3, False), (3, True)]):  # the second time within the hour
        await till.commands.carts.add(ann, game, 4)
        order = await ordered(till.commands.carts.check_out(ann, None, ADDRESS))
        assert await told() == expected
        await till.commands.orders.cancel(ann, order.order_id)


# -- reservations of other systems -----------------------------------------------------------------


async def emit(till: Till, game: UUID, *events: Event) -> None:
    """Append events to the stock, without any command."""

    async def decision(unit: UnitOfWork) -> None:
        await unit.load(STOCK, stock_id(game))
        unit.emit(stock_id(game), list(events))

    await till.core.handler.handle(decision, SYSTEM)


async def test_an_order_whose_stock_is_not_there_is_neither_confirmed_nor_refunded(
    till: Till,
) -> None:
    ann, game = await till.person(), await till.physical_game(2)
    await till.wallet(ann, 1999)
    cart_id = (await till.commands.carts.add(ann, game, 1)).value
    placed = await ordered(till.commands.carts.check_out(ann, BY_WALLET, ADDRESS))
    (held,) = [line.reservation_id for line in (await till.order(placed.order_id)).lines]
    assert held is not None
    soft = Reserved(reservation_id=held, cart_id=cart_id, quantity=1, expires_at=till.clock.now())
    await emit(till, game, ReservationReleased(reservation_id=held, reason="a mistake"), soft)

    await till.settle()

    assert (await till.order(placed.order_id)).status == "PENDING_PAYMENT"
    assert (await till.payment(placed.payment_id)).status == "CAPTURED"


async def test_a_cart_of_the_shop_is_held_nothing_but_by_its_buyer(till: Till) -> None:
    ann, game = await till.person(), await till.physical_game(5)
    cart_id = (await till.commands.carts.add(ann, game, 2)).value

    with pytest.raises(Conflict, match="shop_cart"):
        await till.commands.inventory.reserve(ADMIN, game, 3, cart_id)

    assert await till.stock(game) == (5, 3, 2, 0)


async def test_an_order_of_the_shop_is_allocated_nothing_but_by_its_checkout(till: Till) -> None:
    ann, game = await till.person(), await till.physical_game(5)
    await till.commands.carts.add(ann, game, 2)
    ours = (await ordered(till.commands.carts.check_out(ann, None, ADDRESS))).order_id
    held = (await till.commands.inventory.reserve(ADMIN, game, 3, uuid7())).value

    with pytest.raises(Conflict, match="shop_order"):
        await till.commands.inventory.allocate(ADMIN, game, HoldName(held), ours)

    assert await till.stock(game) == (5, 0, 3, 2)


async def test_a_hold_in_the_name_of_an_order_that_does_not_have_it_can_be_given_up(
    till: Till,
) -> None:
    ann, game = await till.person(), await till.physical_game(5)
    await till.commands.carts.add(ann, game, 2)
    ours = (await ordered(till.commands.carts.check_out(ann, None, ADDRESS))).order_id
    held = (await till.commands.inventory.reserve(ADMIN, game, 3, uuid7())).value
    until = till.clock.now() + 30 * MINUTE
    await emit(
        till, game, Allocated(reservation_id=held, order_id=ours, quantity=3, expires_at=until)
    )
    await till.commands.orders.cancel(ann, ours)
    assert await till.stock(game) == (5, 2, 0, 3)

    await till.commands.inventory.release(ADMIN, game, HoldName(held), "nobody wants it")

    assert await till.stock(game) == (5, 5, 0, 0)


async def test_a_hold_of_our_order_ends_with_it_and_another_systems_when_its_time_is_over(
    till: Till,
) -> None:
    ann, game = await till.person(), await till.physical_game(5)
    await till.commands.carts.add(ann, game, 2)
    await till.commands.carts.check_out(ann, None, ADDRESS)
    held = (await till.commands.inventory.reserve(ADMIN, game, 3, uuid7())).value
    await till.commands.inventory.allocate(ADMIN, game, HoldName(held), uuid7())
    till.clock.advance(30 * MINUTE)

    await till.commands.inventory.expire(SYSTEM, stock_id(game))

    assert await till.stock(game) == (5, 3, 0, 2)
