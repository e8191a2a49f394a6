"""What a cart holds of the stock: each physical line has a hold, which lasts as long as the
cart."""

from collections.abc import Mapping
from typing import Literal
from uuid import UUID

from commands.inventory import stock_of
from commands.shop_rules import ShopRules
from domain import inventory
from domain.cart import Cart, Item
from domain.events import Event
from domain.ids import stock_id
from domain.inventory import Stock
from eventstore.unit_of_work import UnitOfWork
from kit.clock import Clock

EndReason = Literal["expired", "cart thrown away"]
"""Why a cart gives up its claim and its holds, as the log has it for ever."""


class Holds:
    """Emits what becomes of holds."""

    def __init__(self, clock: Clock, rules: ShopRules) -> None:
        self._clock = clock
        self._rules = rules

    async def extend(
        self, unit: UnitOfWork, cart_id: UUID, cart: Cart, changed: Mapping[UUID, int] = {}
    ) -> None:
        """Every hold of the cart lasts as long as the cart; `changed` are lines whose quantity
        changes, 0 to none. What another line has lost does not stand in the way: it is taken anew
        when that line changes, or at the checkout.
        """
        for item in cart.items.values():
            if item.reservation_id is None:
                continue
            stock, quantity = (
                await stock_of(unit, item.game_id),
                changed.get(item.item_id, item.quantity),
            )
            if quantity == 0:
                released = inventory.release(stock, item.reservation_id, "removed from the cart")
                unit.emit(stock_id(item.game_id), released)
            elif item.item_id in changed or item.reservation_id in stock.reservations:
                await self.hold(unit, cart_id, cart, item, quantity)

    async def hold(
        self, unit: UnitOfWork, cart_id: UUID, cart: Cart, item: Item, quantity: int
    ) -> None:
        """Hold so many of a line, for as long as the cart lives from now on; digital games need no
        hold.

        One that was lost (an operator gave it up, another process's clock is ahead) is taken anew.
        """
        if item.reservation_id is None:
            return
        now, stock = self._clock.now(), await stock_of(unit, item.game_id)
        until = cart.until(now, self._rules.cart_ttl)
        if item.reservation_id in stock.reservations:
            held = inventory.change(stock, item.reservation_id, quantity, until, now=now)
        else:
            held = inventory.reserve(
                stock,
                item.reservation_id,
                cart_id,
                quantity,
                until,
                now=now,
                buyer_id=cart.buyer_id,
            )
        unit.emit(stock_id(item.game_id), held)

    async def check_limit(self, unit: UnitOfWork, cart_id: UUID, cart: Cart, item: Item) -> None:
        """After more of it was put in. Raises Conflict("quantity_limit")."""
        if item.reservation_id is not None:
            stock, now = await stock_of(unit, item.game_id), self._clock.now()
            inventory.check_limit(stock, cart.buyer_id, cart_id, now, self._rules.cart_max_quantity)

    async def free_for(self, unit: UnitOfWork, cart_id: UUID, cart: Cart, item: Item) -> int:
        """How many of a line's game the cart could hold now, beyond what it holds."""
        stock, now = await stock_of(unit, item.game_id), self._clock.now()
        return inventory.free_for(stock, cart.buyer_id, cart_id, now, self._rules.cart_max_quantity)

    @staticmethod
    async def is_held(unit: UnitOfWork, item: Item) -> bool:
        return item.reservation_id in (await stock_of(unit, item.game_id)).reservations


def given_up(stock: Stock, reservation_id: UUID, reason: EndReason) -> list[Event]:
    """The end of a hold whose cart ended: by the clock, or by its buyer."""
    if reservation_id in stock.reservations and reason == "expired":
        return [inventory.ReservationExpired(reservation_id=reservation_id)]
    return inventory.release(stock, reservation_id, reason)
