"""Commands on stock: count it; reserve, allocate, release or sell units."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

import msgspec

from commands.aggregates import CART, GAME, ORDER, STOCK, no_such_product
from commands.caller import Caller
from commands.handler import CommandHandler, CommandResult
from commands.shop_rules import ShopRules
from domain import inventory
from domain.errors import Conflict, Forbidden, Invalid
from domain.events import Event
from domain.ids import stock_id
from domain.inventory import Stock
from domain.reservations import HoldName, Kind
from eventstore.log import IdempotencyKey
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7

Find = Callable[[Stock, datetime], UUID]
Decide = Callable[[Stock, UUID, datetime], list[Event]]
Check = Callable[[UnitOfWork, Stock, UUID], Awaitable[None]]


class StockNow(msgspec.Struct, frozen=True):
    """A stock item after a command, and its stream's version."""

    stock: Stock
    version: int


class InventoryCommands:
    """Commands on stock. Holds for carts and orders of other systems last as long as those of this
    shop's."""

    def __init__(self, handler: CommandHandler, rules: ShopRules) -> None:
        self._handler = handler
        self._rules = rules

    async def set_total(
        self,
        caller: Caller,
        game_id: UUID,
        total: int,
        counted_at: int | None = None,
        *,
        expected_version: int | None = None,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[StockNow]:
        """Set the total number of units, including those held (its seller, ADMIN).

        Another version than the stock is at is refused: as `counted_at` (part of the request) by
        Conflict("version_conflict"), as `expected_version` by Stale("version_mismatch"), both with
        `version`. Also raises NotFound("product_not_found"); Forbidden("not_yours");
        Conflict("stock_below_commitments"); Invalid: invalid_quantity, not_physical.
        """

        async def decision(unit: UnitOfWork) -> StockNow:
            stock = await stock_of(unit, game_id)
            caller.must_act_for(stock.seller_id, "product")
            version = unit.version(stock_id(game_id))
            if counted_at is not None and counted_at != version:
                raise Conflict(
                    "version_conflict", f"the stock is at version {version}", version=version
                )
            unit.expect(stock_id(game_id), expected_version)
            now = self._handler.now()
            needed = stock.reserved + stock.allocated - total
            unit.emit(stock_id(game_id), inventory.expire(stock, now, units=needed))
            freed = (await _now(unit, game_id)).stock
            unit.emit(
                stock_id(game_id), inventory.set_total(freed, total, self._rules.low_stock, now=now)
            )
            unit.record_ids(product_id=game_id)
            return await _now(unit, game_id)

        return await self._handler.handle(decision, caller, once)

    async def reserve(
        self,
        caller: Caller,
        game_id: UUID,
        quantity: int,
        cart_id: UUID,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        """Reserve units for a cart of another system (ADMIN, SERVICE). Returns the reservation's
        id.

        Raises NotFound("product_not_found"); Conflict: insufficient_stock,
        game_unavailable (it is not on sale), shop_cart (it is a cart of this shop, which reserves
        by adding lines); Invalid; Forbidden.
        """
        new = uuid7()

        async def check(unit: UnitOfWork, stock: Stock, _reservation_id: UUID) -> None:
            game = await unit.load(GAME, stock.game_id)
            if game is None or game.status != "ACTIVE":
                raise Conflict("game_unavailable", "the game is not on sale")
            if await unit.load(CART, cart_id) is not None:
                raise Conflict(
                    "shop_cart",
                    "a cart of this shop reserves by adding lines",
                    cart_id=str(cart_id),
                )

        def decide(stock: Stock, reservation_id: UUID, now: datetime) -> list[Event]:
            until = now + self._rules.cart_ttl
            return inventory.reserve(stock, reservation_id, cart_id, quantity, until, now=now)

        _must_serve(caller)
        return await self._change(caller, game_id, lambda _stock, _now: new, decide, once, check)

    async def allocate(
        self,
        caller: Caller,
        game_id: UUID,
        hold: HoldName,
        order_id: UUID,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        """Turn a reservation into an allocation for an order of another system (ADMIN, SERVICE).

        Raises as `Reservations.find`; Conflict: reservation_expired, reservation_allocated,
        reservation_in_use (a cart of this shop holds it), shop_order (it is an order of this shop);
        Forbidden.
        """

        async def check(unit: UnitOfWork, stock: Stock, reservation_id: UUID) -> None:
            await _must_not_be_a_carts(unit, stock, reservation_id)
            if await unit.load(ORDER, order_id) is not None:
                raise Conflict(
                    "shop_order",
                    "an order of this shop allocates at its checkout",
                    order_id=str(order_id),
                )

        def decide(stock: Stock, reservation_id: UUID, now: datetime) -> list[Event]:
            until = now + self._rules.allocation_ttl
            return inventory.allocate(
                stock, reservation_id, order_id, until, now=now, threshold=self._rules.low_stock
            )

        _must_serve(caller)
        return await self._change(caller, game_id, _finder(hold, "SOFT"), decide, once, check)

    async def release(
        self,
        caller: Caller,
        game_id: UUID,
        hold: HoldName,
        reason: str,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        """Release a hold (ADMIN, SERVICE). A cart of this shop takes a new one later, if it can.

        Raises as `Reservations.find`; Conflict("reservation_in_use") when an order of this
        shop holds it; Forbidden.
        """

        def decide(stock: Stock, reservation_id: UUID, _now: datetime) -> list[Event]:
            return inventory.release(stock, reservation_id, reason)

        _must_serve(caller)
        return await self._change(caller, game_id, _finder(hold), decide, once)

    async def confirm_sale(
        self, caller: Caller, game_id: UUID, hold: HoldName, *, once: IdempotencyKey | None = None
    ) -> CommandResult[UUID]:
        """Sell the units that an order of another system holds (ADMIN, SERVICE).

        Raises as `Reservations.find`; Conflict: not_allocated, reservation_in_use; Forbidden.
        """

        def decide(stock: Stock, reservation_id: UUID, _now: datetime) -> list[Event]:
            return inventory.confirm_sale(stock, reservation_id)

        _must_serve(caller)
        return await self._change(caller, game_id, _finder(hold), decide, once)

    async def expire(
        self, caller: Caller, stock_id: UUID, *, once: IdempotencyKey | None = None
    ) -> CommandResult[None]:
        """End the overdue holds of this stock item, when a hold's deadline fires. Holds of this
        shop's orders end with their order instead.
        """

        async def decision(unit: UnitOfWork) -> None:
            stock, now = await unit.load(STOCK, stock_id), self._handler.now()
            if stock is not None:
                unit.emit(
                    stock_id, inventory.expire(stock, now, await _overdue_foreign(unit, stock, now))
                )

        return await self._handler.handle(decision, caller, once)

    async def _change(
        self,
        caller: Caller,
        game_id: UUID,
        find: Find,
        decide: Decide,
        once: IdempotencyKey | None,
        check: Check | None = None,
    ) -> CommandResult[UUID]:
        async def decision(unit: UnitOfWork) -> UUID:
            stock, now = await stock_of(unit, game_id), self._handler.now()
            reservation_id = find(stock, now)
            if check is not None:
                await check(unit, stock, reservation_id)
            await _must_not_be_an_orders(unit, stock, reservation_id)
            unit.emit(stock_id(game_id), decide(stock, reservation_id, now))
            unit.record_ids(reservation_id=reservation_id, product_id=game_id)
            return reservation_id

        return await self._handler.handle(decision, caller, once)


async def stock_of(unit: UnitOfWork, game_id: UUID) -> Stock:
    """A physical game's stock item, which is opened if it does not exist yet.

    Raises NotFound("product_not_found"); Invalid("not_physical").
    """
    stream_id = stock_id(game_id)
    stock = await unit.load(STOCK, stream_id)
    if stock is not None:
        return stock
    game = await unit.load(GAME, game_id)
    if game is None:
        raise no_such_product()
    if game.listing.kind != "PHYSICAL":
        raise Invalid("not_physical", "only physical games have stock")
    unit.emit(stream_id, inventory.create(None, game_id, game.seller_id, game.listing.sku))
    return await unit.get(STOCK, stream_id)


def _finder(hold: HoldName, kind: Kind | None = None) -> Find:
    return lambda stock, now: stock.holds.find(hold, now, kind)


async def _now(unit: UnitOfWork, game_id: UUID) -> StockNow:
    stock = await unit.get(STOCK, stock_id(game_id))
    return StockNow(stock, unit.version_after(stock_id(game_id)))


async def _overdue_foreign(unit: UnitOfWork, stock: Stock, now: datetime) -> set[UUID]:
    """The overdue hard holds that no order of this shop has, at most as many as one append ends.
    (An order's holds never change, so the orders need no version check.)"""
    foreign: set[UUID] = set()
    for reservation_id in stock.holds.due("HARD", now):
        if len(foreign) >= inventory.FREED_AT_ONCE:
            break
        order_id = stock.reservations[reservation_id].order_id
        order = None if order_id is None else await unit.load(ORDER, order_id, check=False)
        if order is None or not order.has_reservation(reservation_id):
            foreign.add(reservation_id)
    return foreign


async def _must_not_be_an_orders(unit: UnitOfWork, stock: Stock, reservation_id: UUID) -> None:
    """Raises Conflict("reservation_in_use") when an order of this shop holds it: only the order's
    end ends the hold."""
    held = stock.reservations.get(reservation_id)
    order = None if held is None or held.order_id is None else await unit.load(ORDER, held.order_id)
    if held is not None and order is not None and order.has_reservation(reservation_id):
        raise Conflict(
            "reservation_in_use",
            "an order holds the reservation: cancel the order",
            order_id=str(held.order_id),
        )


async def _must_not_be_a_carts(unit: UnitOfWork, stock: Stock, reservation_id: UUID) -> None:
    """Raises Conflict("reservation_in_use") when a cart of this shop holds it."""
    held = stock.reservations.get(reservation_id)
    cart = None if held is None or held.cart_id is None else await unit.load(CART, held.cart_id)
    if held is not None and cart is not None and cart.has_reservation(reservation_id):
        raise Conflict(
            "reservation_in_use",
            "a cart holds the reservation, and its checkout allocates it",
            cart_id=str(held.cart_id),
        )


def _must_serve(caller: Caller) -> None:
    if caller.account_type not in {"ADMIN", "SERVICE"}:
        raise Forbidden("role_required", "this requires the role ADMIN or SERVICE")
