"""A cart: what a buyer is about to order, in one currency.

Every physical line has a stock reservation. A cart expires some minutes after its last change, and
at `ends_at` at the latest. Decisions treat it as expired from that moment on, whether or not its
deadline has fired. Checkout turns it into an order, unless a line is no longer available as it
stands: then the cart is updated first. The cart completes with the order's payment, or is
abandoned.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import reduce
from typing import Literal
from uuid import UUID

import msgspec

from domain.catalog import Price
from domain.errors import Conflict, Invalid, NotFound
from domain.events import Event, event
from domain.money import format_amount
from kit.currencies import MAX_CENTS

Status = Literal["ACTIVE", "CHECKOUT", "COMPLETED", "ABANDONED", "EXPIRED"]
AbandonReason = Literal["expired", "payment_failed", "discarded", "account_closed"]

MAX_LINES = 50

_LEFT_AT_FIRST = timedelta(minutes=45)
"""How long a cart without `ends_at` lives beyond its first `expires_at`."""

# -- events ----------------------------------------------------------------------------------------


@event("cart.created.v1")
class CartCreated(Event, frozen=True):
    """The buyer opened an empty cart. `currency` is that of the first line's price. `ends_at` is
    the latest time to which changes can extend the cart and its reservations; carts from before the
    field existed lack it."""

    buyer_id: UUID
    currency: str
    expires_at: datetime
    ends_at: datetime | None = None


@event("cart.item_added.v1")
class ItemAdded(Event, frozen=True):
    """The buyer added a line at the game's current price. Digital lines
    have no `reservation_id`."""

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
    """The line has a new quantity."""

    item_id: UUID
    quantity: int
    expires_at: datetime


@event("cart.item_repriced.v1")
class ItemRepriced(Event, frozen=True):
    """The line took over the game's new price."""

    item_id: UUID
    unit_price_cents: int
    expires_at: datetime


@event("cart.currency_changed.v1")
class CurrencyChanged(Event, frozen=True):
    """The cart moved to another currency, as its games are now sold to the buyer in that one;
    `cart.item_repriced.v1` gives each line's new price."""

    currency: str


@event("cart.item_removed.v1")
class ItemRemoved(Event, frozen=True):
    """The line was removed."""

    item_id: UUID
    expires_at: datetime


@event("cart.checkout_initiated.v1")
class CheckoutInitiated(Event, frozen=True):
    """Checkout turned the cart into an order."""

    order_id: UUID
    payment_id: UUID


@event("cart.completed.v1")
class CartCompleted(Event, frozen=True):
    """The cart's order was paid."""

    order_id: UUID


@event("cart.abandoned.v1")
class CartAbandoned(Event, frozen=True):
    """The cart ended without a paid order: it expired, its order was not paid, its buyer discarded
    it, or the buyer's account was closed."""

    reason: AbandonReason


@event("cart.expiry_shown.v1")
class ExpiryShown(Event, frozen=True):
    """The buyer was shown that the cart had expired and what was in it. This happens once."""


# -- state -----------------------------------------------------------------------------------------


class Item(msgspec.Struct, frozen=True):
    item_id: UUID
    game_id: UUID
    seller_id: UUID
    sku: str
    title: str
    quantity: int
    unit_price_cents: int
    reservation_id: UUID | None = None


class Cart(msgspec.Struct, frozen=True):
    buyer_id: UUID
    currency: str
    expires_at: datetime
    ends_at: datetime
    status: Status = "ACTIVE"
    items: Mapping[UUID, Item] = {}
    order_id: UUID | None = None
    expiry_shown: bool = False

    @property
    def total_cents(self) -> int:
        """Sum of all lines."""
        return sum(item.quantity * item.unit_price_cents for item in self.items.values())

    def has_reservation(self, reservation_id: UUID) -> bool:
        """Whether this reservation belongs to one of the cart's lines."""
        return any(item.reservation_id == reservation_id for item in self.items.values())

    def is_open(self, now: datetime) -> bool:
        """Whether the cart can be changed: not checked out and not expired."""
        return self.status == "ACTIVE" and now < min(self.expires_at, self.ends_at)

    def until(self, now: datetime, ttl: timedelta) -> datetime:
        """When the cart expires if it is changed now."""
        return min(now + ttl, self.ends_at)


def evolve(state: Cart | None, event: Event) -> Cart | None:  # noqa: PLR0911 - one case a fact
    replace = msgspec.structs.replace
    match state, event:
        case _, CartCreated():
            ends_at = event.ends_at or event.expires_at + _LEFT_AT_FIRST
            return Cart(event.buyer_id, event.currency, event.expires_at, ends_at)
        case Cart(), ItemAdded():
            fields = {
                name: value
                for name, value in msgspec.structs.asdict(event).items()
                if name != "expires_at"
            }
            return replace(
                state,
                items={**state.items, event.item_id: Item(**fields)},
                expires_at=event.expires_at,
            )
        case Cart(), ItemChanged():
            item = replace(state.items[event.item_id], quantity=event.quantity)
            return replace(
                state, items={**state.items, event.item_id: item}, expires_at=event.expires_at
            )
        case Cart(), ItemRepriced():
            item = replace(state.items[event.item_id], unit_price_cents=event.unit_price_cents)
            return replace(
                state, items={**state.items, event.item_id: item}, expires_at=event.expires_at
            )
        case Cart(), CurrencyChanged(currency=currency):
            return replace(state, currency=currency)
        case Cart(), ItemRemoved():
            items = {key: item for key, item in state.items.items() if key != event.item_id}
            return replace(state, items=items, expires_at=event.expires_at)
        case Cart(), CheckoutInitiated():
            return replace(state, status="CHECKOUT", order_id=event.order_id)
        case Cart(), CartCompleted():
            return replace(state, status="COMPLETED")
        case Cart(), CartAbandoned(reason=reason):
            return replace(state, status="EXPIRED" if reason == "expired" else "ABANDONED")
        case Cart(), ExpiryShown():
            return replace(state, expiry_shown=True)
    return state


# -- decisions -------------------------------------------------------------------------------------


def create(buyer_id: UUID, currency: str, expires_at: datetime, ends_at: datetime) -> list[Event]:
    """Open a cart with prices in this currency; it never lives beyond `ends_at`."""
    return [
        CartCreated(
            buyer_id=buyer_id,
            currency=currency,
            expires_at=min(expires_at, ends_at),
            ends_at=ends_at,
        )
    ]


def add(
    cart: Cart, item: Item, currency: str, expires_at: datetime, *, digital: bool, now: datetime
) -> list[Event]:
    """Add a line. A game may have several lines, but a digital one only one, of quantity 1. All
    lines of the game take its current price.

    Raises Invalid: invalid_quantity; Conflict: cart_closed, currency_mismatch, cart_full,
    already_in_cart, amount_too_large.
    """
    _must_be_open(cart, now)
    _must_be_in_its_currency(cart, currency)
    if len(cart.items) >= MAX_LINES:
        raise Conflict("cart_full", f"a cart has at most {MAX_LINES} lines")
    if digital and item.quantity != 1:
        raise Invalid("invalid_quantity", "the quantity of a digital game is 1")
    if digital and any(other.game_id == item.game_id for other in cart.items.values()):
        raise Conflict("already_in_cart", "the game is already in the cart")
    repriced = _repriced(cart, item.game_id, item.unit_price_cents, expires_at)
    _must_be_affordable(
        _total_after(cart, repriced) + item.quantity * item.unit_price_cents, cart.currency
    )
    return [
        *repriced,
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
        ),
    ]


def change(
    cart: Cart,
    item_id: UUID,
    quantity: int,
    expires_at: datetime,
    *,
    now: datetime,
    price: Price | None = None,
) -> list[Event]:
    """Change a line's quantity. A larger quantity moves all lines of the game to its current
    `price`.

    Raises NotFound("item_not_found"); Conflict: cart_closed, currency_mismatch, amount_too_large;
    Invalid("invalid_quantity").
    """
    _must_be_open(cart, now)
    item = item_of(cart, item_id)
    if quantity < 1 or (item.reservation_id is None and quantity > 1):
        raise Invalid(
            "invalid_quantity", "the quantity is at least 1, and exactly 1 for a digital game"
        )
    events: list[Event] = []
    if quantity > item.quantity and price is not None:
        _must_be_in_its_currency(cart, price.currency)
        events += _repriced(cart, item.game_id, price.amount_cents, expires_at)
    events.append(ItemChanged(item_id=item_id, quantity=quantity, expires_at=expires_at))
    _must_be_affordable(_total_after(cart, events), cart.currency)
    return events


def remove(cart: Cart, item_id: UUID, expires_at: datetime, *, now: datetime) -> list[Event]:
    """Remove a line. Raises NotFound("item_not_found"), Conflict("cart_closed")."""
    _must_be_open(cart, now)
    item_of(cart, item_id)
    return [ItemRemoved(item_id=item_id, expires_at=expires_at)]


def check_out(cart: Cart, order_id: UUID, payment_id: UUID, *, now: datetime) -> list[Event]:
    """Turn the cart into an order. Raises Conflict: cart_closed, cart_empty, amount_too_large."""
    _must_be_open(cart, now)
    if not cart.items:
        raise Conflict("cart_empty", "the cart is empty")
    _must_be_affordable(cart.total_cents, cart.currency)
    return [CheckoutInitiated(order_id=order_id, payment_id=payment_id)]


def complete(cart: Cart) -> list[Event]:
    """Complete the cart once its order is paid. Idempotent."""
    if cart.status != "CHECKOUT" or cart.order_id is None:
        return []
    return [CartCompleted(order_id=cart.order_id)]


def abandon(cart: Cart) -> list[Event]:
    """Abandon the cart once its order has ended unpaid. Idempotent."""
    return [CartAbandoned(reason="payment_failed")] if cart.status == "CHECKOUT" else []


def expire(cart: Cart, now: datetime) -> list[Event]:
    """Expire the cart when its deadline fires. No-op unless it is overdue."""
    if cart.status != "ACTIVE" or cart.is_open(now):
        return []
    return [CartAbandoned(reason="expired")]


def show_expiry(cart: Cart) -> list[Event]:
    """Record that the buyer was shown the expiry. Idempotent; no-op for an empty cart."""
    return (
        [ExpiryShown()] if cart.status == "EXPIRED" and cart.items and not cart.expiry_shown else []
    )


def discard(cart: Cart) -> list[Event]:
    """Abandon the cart on the buyer's behalf. No-op unless it is ACTIVE."""
    return [CartAbandoned(reason="discarded")] if cart.status == "ACTIVE" else []


def close(cart: Cart) -> list[Event]:
    """Abandon the cart because the buyer's account was closed. No-op unless it is ACTIVE."""
    return [CartAbandoned(reason="account_closed")] if cart.status == "ACTIVE" else []


def abandon_empty(cart: Cart) -> list[Event]:
    """Expire an empty cart early, so that its buyer can open one in another currency."""
    return [CartAbandoned(reason="expired")] if cart.status == "ACTIVE" and not cart.items else []


# -- rules -----------------------------------------------------------------------------------------


def item_of(cart: Cart, item_id: UUID) -> Item:
    """The line with this id. Raises NotFound("item_not_found")."""
    item = cart.items.get(item_id)
    if item is None:
        raise NotFound("item_not_found", "the cart has no such line")
    return item


def _repriced(cart: Cart, game_id: UUID, cents: int, expires_at: datetime) -> list[Event]:
    """The events that move every line of a game to this price."""
    return [
        ItemRepriced(item_id=item.item_id, unit_price_cents=cents, expires_at=expires_at)
        for item in cart.items.values()
        if item.game_id == game_id and item.unit_price_cents != cents
    ]


def _total_after(cart: Cart, events: Iterable[Event]) -> int:
    started: Cart | None = cart
    after = reduce(evolve, events, started)
    assert after is not None
    return after.total_cents


def _must_be_open(cart: Cart, now: datetime) -> None:
    if not cart.is_open(now):
        raise Conflict("cart_closed", "the cart was checked out, or has expired")


def _must_be_in_its_currency(cart: Cart, currency: str) -> None:
    if currency != cart.currency:
        raise Conflict(
            "currency_mismatch",
            f"the prices of this cart are in {cart.currency}",
            cart_currency=cart.currency,
        )


def _must_be_affordable(total_cents: int, currency: str) -> None:
    if total_cents > MAX_CENTS[currency]:
        raise Conflict(
            "amount_too_large",
            f"a cart costs at most {format_amount(MAX_CENTS[currency], currency)}",
        )
