"""A cart's holds on stock: each physical line has one, which lasts as long as the cart."""

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
"""Why a cart gives up its claim and its holds. Stored in the log, so it never changes."""


class Holds:
    """Emits the changes of a cart's holds."""

    def __init__(self, clock: Clock, rules: ShopRules) -> None:
        self._clock = clock
        self._rules = rules

    async def extend(
        self, unit: UnitOfWork, cart_id: UUID, cart: Cart, changed: Mapping[UUID, int] = {}
    ) -> None:
        """Extend all holds of the cart to its new expiry. `changed` has the new quantities of
        changed lines, 0 for a removed one. Lost holds of other lines are skipped: they are taken
        anew when their line changes, or at checkout.
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
        """Hold this quantity of a line until the cart's new expiry. No-op for digital games.

        A hold that was lost (an operator released it, another process's clock is ahead) is taken
        anew.
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
        """Check the buyer's limit after a line grew. Raises Conflict("quantity_limit")."""
        if item.reservation_id is not None:
            stock, now = await stock_of(unit, item.game_id), self._clock.now()
            inventory.check_limit(stock, cart.buyer_id, cart_id, now, self._rules.cart_max_quantity)

    async def free_for(self, unit: UnitOfWork, cart_id: UUID, cart: Cart, item: Item) -> int:
        """How many more units of the line's game the cart could hold now."""
        stock, now = await stock_of(unit, item.game_id), self._clock.now()
        return inventory.free_for(stock, cart.buyer_id, cart_id, now, self._rules.cart_max_quantity)

    @staticmethod
    async def is_held(unit: UnitOfWork, item: Item) -> bool:
        return item.reservation_id in (await stock_of(unit, item.game_id)).reservations


def given_up(stock: Stock, reservation_id: UUID, reason: EndReason) -> list[Event]:
    """End the hold of a cart that expired or was discarded."""
    if reservation_id in stock.reservations and reason == "expired":
        return [inventory.ReservationExpired(reservation_id=reservation_id)]
    return inventory.release(stock, reservation_id, reason)
