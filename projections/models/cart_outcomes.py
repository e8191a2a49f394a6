"""What became of carts, for analytics: what each contained, and whether it was bought or abandoned.

A row is a cart, and not a day, because only the cart's own stream says how it ended;
`queries/orders/cart_analytics.py` adds the rows up.
"""

from datetime import date
from uuid import UUID

import msgspec

from domain.cart import (
    CartAbandoned,
    CartCompleted,
    CartCreated,
    CheckoutInitiated,
    CurrencyChanged,
    ItemAdded,
    ItemChanged,
    ItemRemoved,
    ItemRepriced,
)
from eventstore.log import Placed
from projections.projection import Projection, Row, Rows, on


class CartLine(msgspec.Struct):
    item_id: UUID
    seller_id: UUID
    game_id: UUID
    units: int
    unit_price_cents: int


class CartOutcomeRow(Row):
    """A cart, created on `day` (UTC), with its `lines`, as they were at its end if it has ended.
    `outcome` is completed, expired, payment_failed, discarded or account_closed; None while it is
    open, or its order unpaid."""

    KEY = ("cart_id",)
    INDEXES = ("day",)

    cart_id: UUID
    day: date
    currency: str
    lines: list[CartLine]
    checked_out: bool
    outcome: str | None


class CartOutcomes(Projection[CartOutcomeRow]):
    name, version, row = "cart_outcomes", 1, CartOutcomeRow

    @on(CartCreated)
    def created(self, rows: Rows[CartOutcomeRow], event: CartCreated, env: Placed) -> None:
        day = env.occurred_at.date()
        rows.put(
            CartOutcomeRow(env.stream_id, day, event.currency, [], checked_out=False, outcome=None)
        )

    @on(ItemAdded)
    def added(self, rows: Rows[CartOutcomeRow], event: ItemAdded, env: Placed) -> None:
        line = CartLine(
            event.item_id, event.seller_id, event.game_id, event.quantity, event.unit_price_cents
        )
        rows[env.stream_id].lines.append(line)

    @on(ItemChanged)
    def changed(self, rows: Rows[CartOutcomeRow], event: ItemChanged, env: Placed) -> None:
        for line in rows[env.stream_id].lines:
            if line.item_id == event.item_id:
                line.units = event.quantity

    @on(ItemRepriced)
    def repriced(self, rows: Rows[CartOutcomeRow], event: ItemRepriced, env: Placed) -> None:
        for line in rows[env.stream_id].lines:
            if line.item_id == event.item_id:
                line.unit_price_cents = event.unit_price_cents

    @on(CurrencyChanged)
    def currency_changed(
        self, rows: Rows[CartOutcomeRow], event: CurrencyChanged, env: Placed
    ) -> None:
        rows[env.stream_id].currency = event.currency

    @on(ItemRemoved)
    def removed(self, rows: Rows[CartOutcomeRow], event: ItemRemoved, env: Placed) -> None:
        cart = rows[env.stream_id]
        cart.lines = [line for line in cart.lines if line.item_id != event.item_id]

    @on(CheckoutInitiated)
    def checked_out(self, rows: Rows[CartOutcomeRow], _: CheckoutInitiated, env: Placed) -> None:
        rows[env.stream_id].checked_out = True

    @on(CartCompleted)
    def completed(self, rows: Rows[CartOutcomeRow], _: CartCompleted, env: Placed) -> None:
        rows[env.stream_id].outcome = "completed"

    @on(CartAbandoned)
    def abandoned(self, rows: Rows[CartOutcomeRow], event: CartAbandoned, env: Placed) -> None:
        rows[env.stream_id].outcome = event.reason
