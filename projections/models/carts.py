"""Carts as they stand, with their lines."""

from datetime import datetime
from uuid import UUID

import msgspec

from domain.cart import (
    CartAbandoned,
    CartCompleted,
    CartCreated,
    CheckoutInitiated,
    CurrencyChanged,
    ExpiryShown,
    ItemAdded,
    ItemChanged,
    ItemRemoved,
    ItemRepriced,
)
from eventstore.log import Placed
from projections.projection import Projection, Rows, StreamRow, on


class CartItemRow(msgspec.Struct, frozen=True):
    """A line of a cart; `reservation_id` is its hold on the stock, None for digital games."""

    item_id: UUID
    product_id: UUID
    seller_id: UUID
    sku: str
    title: str
    quantity: int
    unit_price_cents: int
    reservation_id: UUID | None


class Cart(StreamRow):
    """A cart with its lines, in the order in which they were added. A buyer uses their newest cart
    while it is ACTIVE and `expires_at` lies ahead."""

    KEY = ("cart_id",)
    INDEXES = ("buyer_id, created_position",)

    cart_id: UUID
    buyer_id: UUID
    status: str
    currency: str
    items: list[CartItemRow]
    total_cents: int
    expires_at: datetime
    order_id: UUID | None

    def is_open(self, now: datetime) -> bool:
        """Whether it can be changed and checked out."""
        return self.status == "ACTIVE" and now < self.expires_at

    def is_over(self, now: datetime) -> bool:
        """Whether its time ran out, even if no event says so yet."""
        return self.status == "EXPIRED" or (self.status == "ACTIVE" and not self.is_open(now))


class Carts(Projection[Cart]):
    """Every cart by its id."""

    name, version, row = "carts", 1, Cart

    @on(CartCreated)
    def created(self, rows: Rows[Cart], event: CartCreated, env: Placed) -> None:
        rows.put(
            Cart(
                cart_id=env.stream_id,
                buyer_id=event.buyer_id,
                status="ACTIVE",
                currency=event.currency,
                items=[],
                total_cents=0,
                expires_at=event.expires_at,
                order_id=None,
            )
        )

    @on(ItemAdded)
    def added(self, rows: Rows[Cart], event: ItemAdded, env: Placed) -> None:
        item = CartItemRow(
            item_id=event.item_id,
            product_id=event.game_id,
            seller_id=event.seller_id,
            sku=event.sku,
            title=event.title,
            quantity=event.quantity,
            unit_price_cents=event.unit_price_cents,
            reservation_id=event.reservation_id,
        )
        _filled(rows, env, [*rows[env.stream_id].items, item], event.expires_at)

    @on(ItemChanged)
    def changed(self, rows: Rows[Cart], event: ItemChanged, env: Placed) -> None:
        items = _with(rows[env.stream_id], event.item_id, quantity=event.quantity)
        _filled(rows, env, items, event.expires_at)

    @on(ItemRepriced)
    def repriced(self, rows: Rows[Cart], event: ItemRepriced, env: Placed) -> None:
        price = event.unit_price_cents
        items = _with(rows[env.stream_id], event.item_id, unit_price_cents=price)
        _filled(rows, env, items, event.expires_at)

    @on(CurrencyChanged)
    def currency_changed(self, rows: Rows[Cart], event: CurrencyChanged, env: Placed) -> None:
        cart = rows[env.stream_id]
        cart.status = "ACTIVE"
        cart.currency = event.currency

    @on(ItemRemoved)
    def removed(self, rows: Rows[Cart], event: ItemRemoved, env: Placed) -> None:
        items = [item for item in rows[env.stream_id].items if item.item_id != event.item_id]
        _filled(rows, env, items, event.expires_at)

    @on(CheckoutInitiated)
    def checked_out(self, rows: Rows[Cart], event: CheckoutInitiated, env: Placed) -> None:
        cart = rows[env.stream_id]
        cart.status = "CHECKOUT"
        cart.order_id = event.order_id

    @on(CartCompleted)
    def completed(self, rows: Rows[Cart], _: CartCompleted, env: Placed) -> None:
        rows[env.stream_id].status = "COMPLETED"

    @on(CartAbandoned)
    def abandoned(self, rows: Rows[Cart], event: CartAbandoned, env: Placed) -> None:
        rows[env.stream_id].status = "EXPIRED" if event.reason == "expired" else "ABANDONED"

    @on(ExpiryShown)
    def expiry_shown(self, rows: Rows[Cart], _: ExpiryShown, env: Placed) -> None:
        rows[env.stream_id].status = "EXPIRED"


def _with(cart: Cart, item_id: UUID, **changes: int) -> list[CartItemRow]:
    """The cart's lines, one of them changed."""
    return [
        msgspec.structs.replace(item, **changes) if item.item_id == item_id else item
        for item in cart.items
    ]


def _filled(rows: Rows[Cart], env: Placed, items: list[CartItemRow], expires_at: datetime) -> None:
    cart = rows[env.stream_id]
    cart.status = "ACTIVE"
    cart.items = items
    cart.expires_at = expires_at
    cart.total_cents = sum(item.quantity * item.unit_price_cents for item in items)
