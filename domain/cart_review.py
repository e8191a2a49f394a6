"""Reviewing a cart before checkout: comparing its lines with what is available now."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from domain.cart import Cart, CurrencyChanged, ItemChanged, ItemRemoved, ItemRepriced
from domain.catalog import Price
from domain.events import Event

ChangeCode = Literal["price", "unavailable", "stock"]


class LineNow(msgspec.Struct, frozen=True):
    """What is available for a line now: the price (None: the game is not sold here) and the
    quantity."""

    price: Price | None
    quantity: int


class LineChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a line differs from what is available: another `price` (`was` and `now` in the smallest
    units of their currencies), `unavailable`, or less in `stock` (`was` and `now` are quantities).
    """

    item_id: UUID
    code: ChangeCode
    was: int
    now: int
    was_currency: str | None = None
    currency: str | None = None


def review(
    cart: Cart, found: Mapping[UUID, LineNow], expires_at: datetime
) -> tuple[list[LineChange], list[Event]]:
    """Compare the lines with what is available now (`found`, by line). Returns the differences and
    the events that update the cart; both are empty when all lines are available as they stand.

    A cart has one currency. While any line is still sold in it, lines sold in another count as
    unavailable; otherwise the cart changes to the currency of the first available line.
    """
    currency = _currency_now(cart, found)
    changes: list[LineChange] = []
    events: list[Event] = [CurrencyChanged(currency=currency)] if currency != cart.currency else []
    for item_id, item in cart.items.items():
        price, left = found[item_id].price, min(item.quantity, found[item_id].quantity)
        if price is None or price.currency != currency:
            changes.append(LineChange(item_id, "unavailable", item.quantity, 0))
            events.append(ItemRemoved(item_id=item_id, expires_at=expires_at))
            continue
        if left < item.quantity:
            changes.append(LineChange(item_id, "stock", item.quantity, left))
        if left == 0:
            events.append(ItemRemoved(item_id=item_id, expires_at=expires_at))
            continue
        if (price.amount_cents, currency) != (item.unit_price_cents, cart.currency):
            was, now = item.unit_price_cents, price.amount_cents
            changes.append(
                LineChange(
                    item_id, "price", was, now, was_currency=cart.currency, currency=currency
                )
            )
            events.append(
                ItemRepriced(item_id=item_id, unit_price_cents=now, expires_at=expires_at)
            )
        if left < item.quantity:
            events.append(ItemChanged(item_id=item_id, quantity=left, expires_at=expires_at))
    return changes, events if changes else []


def _currency_now(cart: Cart, found: Mapping[UUID, LineNow]) -> str:
    offered = [
        line.price.currency
        for line in found.values()
        if line.price is not None and line.quantity > 0
    ]
    return cart.currency if cart.currency in offered or not offered else offered[0]
