"""Commands on carts: add, change and remove lines; check out, discard, expire.

A cart changes in one append with the stock that its lines hold.
"""

from collections.abc import Callable
from uuid import UUID

import msgspec

from commands.accounts.open_accounts import must_be_open
from commands.aggregates import CART, CLAIM, GAME, no_such_product
from commands.caller import Caller
from commands.cart_holds import EndReason, Holds, given_up
from commands.checkout import CartCheckout
from commands.handler import CommandHandler, CommandResult
from commands.inventory import stock_of
from commands.offers import offer
from commands.order_saga import OrderIds, must_not_own
from commands.shop_rules import ShopRules
from domain import cart as carts
from domain import claims, inventory
from domain.cart import Cart, Item, item_of
from domain.cart_review import LineChange
from domain.errors import Conflict, NotFound, Refused
from domain.events import Event
from domain.ids import claim_id, stock_id
from domain.payments import Method
from eventstore.log import IdempotencyKey
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7


def no_such_item() -> NotFound:
    """The refusal of a line that the cart does not have."""
    return NotFound("item_not_found", "the cart has no such line")


def cart_is_empty() -> Conflict:
    """The refusal of an empty cart, or of none."""
    return Conflict("cart_empty", "the cart is empty")


class CartChanged(msgspec.Struct, frozen=True):
    """The outcome of a checkout that ordered nothing, but updated the cart: these lines have
    changed."""

    cart_id: UUID
    changes: list[LineChange]


class CartCommands:
    def __init__(self, handler: CommandHandler, rules: ShopRules) -> None:
        self._handler = handler
        self._rules = rules
        self._holds = Holds(handler.clock, rules)
        self._checkout = CartCheckout(handler.clock, rules, self._holds)

    async def add(
        self, caller: Caller, game_id: UUID, quantity: int, *, once: IdempotencyKey | None = None
    ) -> CommandResult[UUID]:
        """Add a game to the caller's cart, which is created if there is none. Returns the cart's
        id.

        Raises NotFound("product_not_found"); Conflict: game_unavailable, insufficient_stock (with
        `available` and `product_id`), quantity_limit (with `limit`), already_owned, order_pending
        (with `order_id`), already_in_cart, currency_mismatch, cart_full, amount_too_large;
        Invalid("invalid_quantity"); Forbidden("user_inactive").
        """
        new_cart_id, item_id, reservation_id = uuid7(), uuid7(), uuid7()

        async def decision(unit: UnitOfWork) -> UUID:
            now, buyer_id = self._handler.now(), caller.person()
            buyer, game = await must_be_open(unit, buyer_id), await unit.load(GAME, game_id)
            if game is None or game.status == "DRAFT":
                raise no_such_product()
            inventory.check_quantity(quantity)
            price, digital = await offer(unit, game, buyer.region), game.listing.kind == "DIGITAL"
            if digital:
                await must_not_own(unit, buyer_id, game_id, now)
            cart_id = await self._open_cart(unit, buyer_id, new_cart_id, price.currency)
            item = Item(
                item_id=item_id,
                game_id=game_id,
                seller_id=game.seller_id,
                sku=game.listing.sku,
                title=game.listing.title,
                quantity=quantity,
                unit_price_cents=price.amount_cents,
                reservation_id=None if digital else reservation_id,
            )
            cart = await unit.get(CART, cart_id)
            await self._holds.hold(unit, cart_id, cart, item, quantity)
            await self._holds.extend(unit, cart_id, cart)
            until = cart.until(now, self._rules.cart_ttl)
            unit.emit(
                cart_id, carts.add(cart, item, price.currency, until, digital=digital, now=now)
            )
            await self._holds.check_limit(unit, cart_id, cart, item)
            unit.record_ids(cart_id=cart_id, item_id=item_id)
            return cart_id

        return await self._handler.handle(decision, caller, once)

    async def change(
        self,
        caller: Caller,
        item_id: UUID,
        quantity: int,
        *,
        expected_version: int | None = None,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        """Change the quantity of a line in the caller's cart. More units cost the current price.
        Returns the cart's id.

        Raises NotFound("item_not_found"); Conflict: insufficient_stock (with `available` and
        `product_id`), quantity_limit (with `limit`), amount_too_large, and for more also
        game_unavailable, currency_mismatch; Invalid("invalid_quantity"); Stale when the cart is not
        at `expected_version`.
        """

        async def decision(unit: UnitOfWork) -> UUID:
            cart_id, cart = await self._own_cart(unit, caller, no_such_item, expected_version)
            now = self._handler.now()
            item = item_of(cart, item_id)
            inventory.check_quantity(quantity)
            price = None
            if quantity > item.quantity:
                buyer, game = (
                    await must_be_open(unit, cart.buyer_id),
                    await unit.get(GAME, item.game_id),
                )
                price = await offer(unit, game, buyer.region)
            await self._holds.extend(unit, cart_id, cart, {item_id: quantity})
            until = cart.until(now, self._rules.cart_ttl)
            unit.emit(cart_id, carts.change(cart, item_id, quantity, until, now=now, price=price))
            if quantity > item.quantity:
                await self._holds.check_limit(unit, cart_id, cart, item)
            unit.record_ids(cart_id=cart_id)
            return cart_id

        return await self._handler.handle(decision, caller, once)

    async def remove(
        self,
        caller: Caller,
        item_id: UUID,
        *,
        expected_version: int | None = None,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[UUID]:
        """Remove a line from the caller's cart. Returns the cart's id. Raises
        NotFound("item_not_found"), Stale."""

        async def decision(unit: UnitOfWork) -> UUID:
            cart_id, cart = await self._own_cart(unit, caller, no_such_item, expected_version)
            now = self._handler.now()
            removed = carts.remove(cart, item_id, cart.until(now, self._rules.cart_ttl), now=now)
            await self._holds.extend(unit, cart_id, cart, {item_id: 0})
            unit.emit(cart_id, removed)
            unit.record_ids(cart_id=cart_id)
            return cart_id

        return await self._handler.handle(decision, caller, once)

    async def check_out(
        self,
        caller: Caller,
        method: Method | None,
        shipping_address: dict[str, str] | None,
        *,
        once: IdempotencyKey | None = None,
    ) -> CommandResult[OrderIds | CartChanged]:
        """Order what is in the caller's cart: the order, its payment, its shipments and their holds
        are one append. If a line is no longer available as it stands, nothing is ordered: the cart
        is updated, and the changes are returned.

        Raises NotFound("wallet_not_found"); Conflict: cart_empty (also when there is no cart),
        amount_too_large, insufficient_funds, wallet_inactive, wallet_frozen;
        Invalid("shipping_address_required"); Forbidden("user_inactive").
        """
        made = OrderIds(uuid7(), uuid7())

        async def decision(unit: UnitOfWork) -> OrderIds | CartChanged:
            cart_id, cart = await self._own_cart(unit, caller, cart_is_empty)
            buyer = await must_be_open(unit, cart.buyer_id)
            if changes := await self._checkout.review(unit, cart_id, cart, buyer):
                changed = CartChanged(cart_id, changes)
                unit.record_ids(cart_id=cart_id, changes=msgspec.json.encode(changes).decode())
                return changed
            await self._checkout.order(unit, cart_id, cart, buyer, made, method, shipping_address)
            unit.record_ids(order_id=made.order_id, payment_id=made.payment_id)
            return made

        return await self._handler.handle(decision, caller, once)

    async def discard(
        self, caller: Caller, *, expected_version: int | None = None
    ) -> CommandResult[None]:
        """Discard the caller's cart and its holds. No-op without a cart. Raises Stale."""

        async def decision(unit: UnitOfWork) -> None:
            try:
                cart_id, cart = await self._own_cart(unit, caller, cart_is_empty, expected_version)
            except Conflict:
                return
            await self._end(unit, cart_id, cart, carts.discard(cart), "cart thrown away")

        return await self._handler.handle(decision, caller)

    async def show_expired(self, caller: Caller, cart_id: UUID) -> CommandResult[Cart | None]:
        """The caller's expired cart, to show what was in it. None when it has not expired, is
        empty, was shown before, or was replaced by another one."""

        async def decision(unit: UnitOfWork) -> Cart | None:
            claim = await unit.load(CLAIM, claim_id("cart", caller.person()))
            cart = await unit.get(CART, cart_id)
            if cart.buyer_id != caller.person() or (
                claim is not None and claim.held and claim.holder_id != cart_id
            ):
                return None
            await self._expire(unit, cart_id, cart)
            cart = await unit.get(CART, cart_id)
            shown = carts.show_expiry(cart)
            unit.emit(cart_id, shown)
            return cart if shown else None

        return await self._handler.handle(decision, caller)

    async def expire(
        self, caller: Caller, cart_id: UUID, *, once: IdempotencyKey | None = None
    ) -> CommandResult[None]:
        """Expire an overdue cart and its holds, when its deadline fires. No-op otherwise."""

        async def decision(unit: UnitOfWork) -> None:
            await self._expire(unit, cart_id, await unit.get(CART, cart_id))

        return await self._handler.handle(decision, caller, once)

    # -- the caller's cart -------------------------------------------------------------------------

    async def _own_cart(
        self,
        unit: UnitOfWork,
        caller: Caller,
        missing: Callable[[], Refused],
        expected_version: int | None = None,
    ) -> tuple[UUID, Cart]:
        """The caller's cart and its id. Raises `missing` without one, also when it is overdue;
        Stale."""
        claim = await unit.load(CLAIM, claim_id("cart", caller.person()))
        if claim is None or not claim.held:
            raise missing()
        cart = await unit.get(CART, claim.holder_id)
        if not cart.is_open(self._handler.now()):
            raise missing()
        unit.expect(claim.holder_id, expected_version)
        return claim.holder_id, cart

    async def _open_cart(
        self, unit: UnitOfWork, buyer_id: UUID, new_cart_id: UUID, currency: str
    ) -> UUID:
        """The id of the buyer's cart; of a new one when there is none, or it is overdue."""
        now, claim_stream = self._handler.now(), claim_id("cart", buyer_id)
        claim = await unit.load(CLAIM, claim_stream)
        if claim is not None and claim.held:
            cart = await unit.get(CART, claim.holder_id)
            if cart.is_open(now) and (cart.items or cart.currency == currency):
                return claim.holder_id
            await self._expire(unit, claim.holder_id, cart)
            claim = await unit.load(CLAIM, claim_stream)
            if claim is not None and claim.held:  # it is empty, and in another currency
                unit.emit(claim.holder_id, carts.abandon_empty(cart))
                unit.emit(claim_stream, claims.release(claim, claim.holder_id, "another currency"))
        taken = Conflict("cart_exists", "you already have a cart")
        unit.emit(
            claim_stream,
            claims.take(await unit.load(CLAIM, claim_stream), "cart", new_cart_id, taken),
        )
        created = carts.create(
            buyer_id, currency, now + self._rules.cart_ttl, now + self._rules.cart_max
        )
        unit.create(CART, new_cart_id, created)
        return new_cart_id

    async def _expire(self, unit: UnitOfWork, cart_id: UUID, cart: Cart) -> None:
        await self._end(unit, cart_id, cart, carts.expire(cart, self._handler.now()), "expired")

    async def _end(
        self, unit: UnitOfWork, cart_id: UUID, cart: Cart, ended: list[Event], reason: EndReason
    ) -> None:
        """Emit a cart's end, and with it the end of its holds and of the claim that keeps the buyer
        from opening another one."""
        if not ended:
            return
        unit.emit(cart_id, ended)
        for item in cart.items.values():
            if item.reservation_id is not None:
                stock = await stock_of(unit, item.game_id)
                unit.emit(stock_id(item.game_id), given_up(stock, item.reservation_id, reason))
        claim = claim_id("cart", cart.buyer_id)
        unit.emit(claim, claims.release(await unit.load(CLAIM, claim), cart_id, reason))
