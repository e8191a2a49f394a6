"""A cart: what a buyer is about to order, in one currency, each physical line with a hold on the stock.

It lives for some minutes after its last change, and is treated as expired from then on, fired or not. Its checkout
becomes an order; it ends completed with the order's payment, or abandoned.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from domain.errors import Conflict, Invalid, NotFound
from domain.events import Event, event
from domain.money import MAX_AMOUNT_CENTS

Status = Literal["ACTIVE", "CHECKOUT", "COMPLETED", "ABANDONED", "EXPIRED"]
AbandonReason = Literal["expired", "payment_failed", "account_closed"]

MAX_LINES = 50

# -- events ------------------------------------------------------------------------------------------------------------


@event("cart.created.v1")
class CartCreated(Event, frozen=True):
    """It is there, empty; its first line's price sets the currency."""

    buyer_id: UUID
    currency: str
    expires_at: datetime


@event("cart.item_added.v1")
class ItemAdded(Event, frozen=True):
    """So many of one game, at the price of this moment; without a reservation when it is digital."""

    item_id: UUID
    game_id: UUID
    seller_id: UUID
    sku: str
    title: str
    quantity: int
    unit_price_cents: int
    expires_at: datetime
    reservation_id: UUID | None = None


@event("cart.item_changed.v1")
class ItemChanged(Event, frozen=True):
    """Another quantity."""

    item_id: UUID
    quantity: int
    expires_at: datetime


@event("cart.item_removed.v1")
class ItemRemoved(Event, frozen=True):
    """The line is gone."""

    item_id: UUID
    expires_at: datetime


@event("cart.checkout_initiated.v1")
class CheckoutInitiated(Event, frozen=True):
    """It has become an order."""

    order_id: UUID
    payment_id: UUID


@event("cart.completed.v1")
class CartCompleted(Event, frozen=True):
    """The order is paid."""

    order_id: UUID


@event("cart.abandoned.v1")
class CartAbandoned(Event, frozen=True):
    """Nothing came of it: its time was over, the order was not paid, or the buyer's account was closed."""

    reason: AbandonReason


# -- state -------------------------------------------------------------------------------------------------------------


class Item(msgspec.Struct, frozen=True):
    """A line of the cart."""

    item_id: UUID
    game_id: UUID
    seller_id: UUID
    sku: str
    title: str
    quantity: int
    unit_price_cents: int
    reservation_id: UUID | None = None


class Cart(msgspec.Struct, frozen=True):
    """A cart as it stands."""

    buyer_id: UUID
    currency: str
    expires_at: datetime
    status: Status = "ACTIVE"
    items: Mapping[UUID, Item] = {}
    order_id: UUID | None = None

    @property
    def total_cents(self) -> int:
        """What its lines cost together."""
        return sum(item.quantity * item.unit_price_cents for item in self.items.values())

    def has_reservation(self, reservation_id: UUID) -> bool:
        """Whether this hold is for one of its lines."""
        return any(item.reservation_id == reservation_id for item in self.items.values())

    def is_open(self, now: datetime) -> bool:
        """Whether it can be changed: neither checked out nor past its time."""
        return self.status == "ACTIVE" and now < self.expires_at


def evolve(state: Cart | None, event: Event) -> Cart | None:  # noqa: PLR0911 - one case a fact
    """The cart after one more event."""
    replace = msgspec.structs.replace
    match state, event:
        case _, CartCreated():
            return Cart(event.buyer_id, event.currency, event.expires_at)
        case Cart(), ItemAdded():
            fields = {name: value for name, value in msgspec.structs.asdict(event).items() if name != "expires_at"}
            return replace(state, items={**state.items, event.item_id: Item(**fields)}, expires_at=event.expires_at)
        case Cart(), ItemChanged():
            item = replace(state.items[event.item_id], quantity=event.quantity)
            return replace(state, items={**state.items, event.item_id: item}, expires_at=event.expires_at)
        case Cart(), ItemRemoved():
            items = {key: item for key, item in state.items.items() if key != event.item_id}
            return replace(state, items=items, expires_at=event.expires_at)
        case Cart(), CheckoutInitiated():
            return replace(state, status="CHECKOUT", order_id=event.order_id)
        case Cart(), CartCompleted():
            return replace(state, status="COMPLETED")
        case Cart(), CartAbandoned(reason=reason):
            return replace(state, status="EXPIRED" if reason == "expired" else "ABANDONED")
    return state


# -- decisions ---------------------------------------------------------------------------------------------------------


def create(buyer_id: UUID, currency: str, expires_at: datetime) -> list[Event]:
    """A cart for prices in this currency."""
    return [CartCreated(buyer_id=buyer_id, currency=currency, expires_at=expires_at)]


def add(cart: Cart, item: Item, currency: str, expires_at: datetime, *, digital: bool, now: datetime) -> list[Event]:
    """Put a line in. The same game may stand on several lines, but a digital one only once, singly.

    Raises Invalid: invalid_quantity; Conflict: cart_closed, currency_mismatch, cart_full, already_in_cart,
    amount_too_large.
    """
    _must_be_open(cart, now)
    if currency != cart.currency:
        raise Conflict("currency_mismatch", f"this cart is in {cart.currency}", cart_currency=cart.currency)
    if len(cart.items) >= MAX_LINES:
        raise Conflict("cart_full", f"a cart has at most {MAX_LINES} lines")
    if digital and item.quantity != 1:
        raise Invalid("invalid_quantity", "a digital game is bought singly")
    if digital and any(other.game_id == item.game_id for other in cart.items.values()):
        raise Conflict("already_in_cart", "this game is in the cart already")
    _must_be_affordable(cart.total_cents + item.quantity * item.unit_price_cents)
    return [
        ItemAdded(
            item_id=item.item_id,
            game_id=item.game_id,
            seller_id=item.seller_id,
            sku=item.sku,
            title=item.title,
            quantity=item.quantity,
            unit_price_cents=item.unit_price_cents,
            reservation_id=item.reservation_id,
            expires_at=expires_at,
        )
    ]


def change(cart: Cart, item_id: UUID, quantity: int, expires_at: datetime, *, now: datetime) -> list[Event]:
    """Want another quantity of a line.

    Raises NotFound("item_not_found"); Conflict: cart_closed, amount_too_large; Invalid("invalid_quantity").
    """
    _must_be_open(cart, now)
    item = item_of(cart, item_id)
    if quantity < 1 or (item.reservation_id is None and quantity > 1):
        raise Invalid("invalid_quantity", "one or more; a digital game is bought singly")
    _must_be_affordable(cart.total_cents + (quantity - item.quantity) * item.unit_price_cents)
    return [ItemChanged(item_id=item_id, quantity=quantity, expires_at=expires_at)]


def remove(cart: Cart, item_id: UUID, expires_at: datetime, *, now: datetime) -> list[Event]:
    """Take a line out. Raises NotFound("item_not_found"), Conflict("cart_closed")."""
    _must_be_open(cart, now)
    item_of(cart, item_id)
    return [ItemRemoved(item_id=item_id, expires_at=expires_at)]


def check_out(cart: Cart, order_id: UUID, payment_id: UUID, *, now: datetime) -> list[Event]:
    """Order what is in it. Raises Conflict: cart_closed, cart_empty."""
    _must_be_open(cart, now)
    if not cart.items:
        raise Conflict("cart_empty", "there is nothing in the cart")
    return [CheckoutInitiated(order_id=order_id, payment_id=payment_id)]


def complete(cart: Cart) -> list[Event]:
    """Its order is paid; saying so again changes nothing."""
    if cart.status != "CHECKOUT" or cart.order_id is None:
        return []
    return [CartCompleted(order_id=cart.order_id)]


def abandon(cart: Cart) -> list[Event]:
    """Its order came to nothing; saying so again changes nothing."""
    return [CartAbandoned(reason="payment_failed")] if cart.status == "CHECKOUT" else []


def expire(cart: Cart, now: datetime) -> list[Event]:
    """The deadline fired: it is over if it is indeed past its time."""
    if cart.status != "ACTIVE" or now < cart.expires_at:
        return []
    return [CartAbandoned(reason="expired")]


def close(cart: Cart) -> list[Event]:
    """Its buyer's account was closed; of one that has become an order, or is over, this says nothing."""
    return [CartAbandoned(reason="account_closed")] if cart.status == "ACTIVE" else []


def give_way(cart: Cart) -> list[Event]:
    """It is empty, and its buyer begins another, in another currency: its time is over early."""
    return [CartAbandoned(reason="expired")] if cart.status == "ACTIVE" and not cart.items else []


# -- rules -------------------------------------------------------------------------------------------------------------


def item_of(cart: Cart, item_id: UUID) -> Item:
    """A line of the cart. Raises NotFound("item_not_found")."""
    item = cart.items.get(item_id)
    if item is None:
        raise NotFound("item_not_found", "the cart has no such line")
    return item


def _must_be_open(cart: Cart, now: datetime) -> None:
    if not cart.is_open(now):
        raise Conflict("cart_closed", "the cart was checked out, or its time is over")


def _must_be_affordable(total_cents: int) -> None:
    if total_cents > MAX_AMOUNT_CENTS:
        raise Conflict("amount_too_large", f"a cart costs at most {MAX_AMOUNT_CENTS}")
