"""The checkout of a cart: the review of its lines, and the order that it becomes.

The cart, its holds, the order, its payment and its shipments change in one append.
"""

from collections.abc import Mapping
from uuid import UUID

from commands.aggregates import CART, CLAIM, GAME, ORDER, SHIPMENT
from commands.cart_holds import Holds
from commands.inventory import stock_of
from commands.offers import offer
from commands.order_saga import OrderIds, claim_ownership, emit_payment, free_overdue_ownership
from commands.shop_rules import ShopRules
from domain import cart as carts
from domain import cart_review, catalog, claims, fulfilment, inventory, orders
from domain.cart import Cart, Item
from domain.cart_review import LineChange, LineNow
from domain.errors import Conflict
from domain.fulfilment import ShipmentLine
from domain.identity import User
from domain.ids import PLATFORM_ID, claim_id, stock_id
from domain.orders import OrderLine
from domain.payments import Method
from domain.regions import ANY_REGION
from eventstore.unit_of_work import UnitOfWork
from kit.clock import Clock
from kit.uuid7 import uuid7


class CartCheckout:
    """Emits what a checkout changes."""

    def __init__(self, clock: Clock, rules: ShopRules, holds: Holds) -> None:
        self._clock = clock
        self._rules = rules
        self._holds = holds

    # -- the review --------------------------------------------------------------------------------

    async def review(
        self, unit: UnitOfWork, cart_id: UUID, cart: Cart, buyer: User
    ) -> list[LineChange]:
        """Update the cart and its holds to what is available now. Returns the differences."""
        now, found, taken = self._clock.now(), dict[UUID, LineNow](), dict[UUID, int]()
        for item in cart.items.values():
            line = await self._line_now(
                unit, cart_id, cart, item, buyer.region, taken.get(item.game_id, 0)
            )
            if item.reservation_id is not None and not await self._holds.is_held(unit, item):
                taken[item.game_id] = taken.get(item.game_id, 0) + min(line.quantity, item.quantity)
            found[item.item_id] = line
        changes, events = cart_review.review(cart, found, cart.until(now, self._rules.cart_ttl))
        if changes:
            unit.emit(cart_id, events)
            left = (await unit.get(CART, cart_id)).items
            quantities = {
                item_id: left[item_id].quantity if item_id in left else 0 for item_id in cart.items
            }
            await self._holds.extend(unit, cart_id, cart, quantities)
        return changes

    async def _line_now(
        self, unit: UnitOfWork, cart_id: UUID, cart: Cart, item: Item, region: str, taken: int
    ) -> LineNow:
        """What is available for a line now, if earlier lines of the same game take `taken`
        units."""
        try:
            price = await offer(unit, await unit.get(GAME, item.game_id), region)
        except Conflict:
            return LineNow(None, 0)
        if item.reservation_id is None:
            ownership = claim_id("ownership", cart.buyer_id, item.game_id)
            await free_overdue_ownership(unit, ownership, self._clock.now())
            claim = await unit.load(CLAIM, ownership)
            return LineNow(None, 0) if claim is not None and claim.held else LineNow(price, 1)
        if await self._holds.is_held(unit, item):
            return LineNow(price, item.quantity)
        return LineNow(price, max(0, await self._holds.free_for(unit, cart_id, cart, item) - taken))

    # -- the order ---------------------------------------------------------------------------------

    async def order(
        self,
        unit: UnitOfWork,
        cart_id: UUID,
        cart: Cart,
        buyer: User,
        made: OrderIds,
        method: Method | None,
        shipping_address: dict[str, str] | None,
    ) -> None:
        """Order what is in a cart without changes to review. Raises as `CartCommands.check_out`."""
        now = self._clock.now()
        expires_at = now + self._rules.stocked_order_ttl
        unit.emit(cart_id, carts.check_out(cart, made.order_id, made.payment_id, now=now))
        shipments: dict[UUID, UUID] = {}
        lines = [
            await self._line(unit, cart_id, cart, item, made.order_id, shipments)
            for item in cart.items.values()
        ]
        placed = orders.place(
            buyer_id=cart.buyer_id,
            region=buyer.region,
            currency=cart.currency,
            lines=lines,
            payment_id=made.payment_id,
            expires_at=expires_at,
            cart_id=cart_id,
            shipping_address=shipping_address if shipments else None,
        )
        unit.create(ORDER, made.order_id, placed)
        _emit_shipments(unit, made.order_id, lines, shipments)
        price = catalog.Price(ANY_REGION, cart.total_cents, cart.currency)
        await emit_payment(unit, made, cart.buyer_id, price, method, expires_at)
        claim = claim_id("cart", cart.buyer_id)
        unit.emit(claim, claims.release(await unit.load(CLAIM, claim), cart_id, "checked out"))

    async def _line(
        self,
        unit: UnitOfWork,
        cart_id: UUID,
        cart: Cart,
        item: Item,
        order_id: UUID,
        shipments: dict[UUID, UUID],
    ) -> OrderLine:
        """The order line of a cart item. Allocates its hold, or claims the buyer's ownership."""
        now, game = self._clock.now(), await unit.get(GAME, item.game_id)
        if item.reservation_id is not None:
            if not await self._holds.is_held(unit, item):
                await self._holds.hold(unit, cart_id, cart, item, item.quantity)
            stock, until = await stock_of(unit, item.game_id), now + self._rules.stocked_order_ttl
            allocated = inventory.allocate(
                stock,
                item.reservation_id,
                order_id,
                until,
                now=now,
                threshold=self._rules.low_stock,
            )
            unit.emit(stock_id(item.game_id), allocated)
            shipments.setdefault(item.seller_id, uuid7())
        else:
            await claim_ownership(unit, cart.buyer_id, item.game_id, order_id, now)
        return OrderLine(
            line_id=uuid7(),
            game_id=item.game_id,
            seller_id=item.seller_id,
            kind=game.listing.kind,
            title=item.title,
            quantity=item.quantity,
            unit_price_cents=item.unit_price_cents,
            fee_bps=0 if item.seller_id == PLATFORM_ID else self._rules.fee_bps,
            shipment_id=None if item.reservation_id is None else shipments[item.seller_id],
            reservation_id=item.reservation_id,
        )


def _emit_shipments(
    unit: UnitOfWork, order_id: UUID, lines: list[OrderLine], shipments: Mapping[UUID, UUID]
) -> None:
    """Emit a shipment for each seller of physical lines."""
    for seller_id, shipment_id in shipments.items():
        sent = [
            ShipmentLine(line.line_id, line.game_id, line.title, line.quantity)
            for line in lines
            if line.shipment_id == shipment_id
        ]
        unit.create(SHIPMENT, shipment_id, fulfilment.create(order_id, seller_id, sent))
