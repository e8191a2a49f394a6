"""Orders: what was bought, for how much, and how far it has come. Their payments are rows of their
own.

The shipping address is personal: it stays in the log, under its person's key.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from domain.orders import (
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
    OrderLine,
    OrderRefunded,
    OrderRefundReversed,
    OrderStatusChanged,
    are_digital,
    shipments_of,
)
from eventstore.log import Placed
from projections.fields import Happened, happened
from projections.projection import Projection, Rows, StreamRow, on


class OrderLineRow(msgspec.Struct, frozen=True):
    """A quantity of one game at a unit price, in the order's currency; `fee_bps` is the platform's
    share."""

    line_id: UUID
    game_id: UUID
    seller_id: UUID
    kind: str
    title: str
    quantity: int
    unit_price_cents: int
    fee_bps: int
    shipment_id: UUID | None = None
    reservation_id: UUID | None = None


class OrderRow(StreamRow):
    """An order; `user_id` is the buyer, `timeline` lists its events."""

    KEY = ("order_id",)
    INDEXES = ("user_id, created_position", "status, created_position", "created_position")

    order_id: UUID
    user_id: UUID
    region: str
    currency: str
    total_cents: int
    refunded_cents: int
    status: str
    provisional: bool
    cancel_reason: str | None
    payment_id: UUID
    cart_id: UUID | None
    lines: list[OrderLineRow]
    expires_at: datetime
    timeline: list[Happened]

    @property
    def shipment_ids(self) -> list[UUID]:
        """The ids of its shipments, one per seller of physical games."""
        return shipments_of(self.lines)


class Orders(Projection[OrderRow]):
    """Every order by its id."""

    name, version, row = "orders", 2, OrderRow

    @on(OrderCreated)
    def created(self, rows: Rows[OrderRow], event: OrderCreated, env: Placed) -> None:
        rows.put(
            OrderRow(
                order_id=env.stream_id,
                user_id=event.buyer_id,
                region=event.region,
                currency=event.currency,
                total_cents=event.total_cents,
                refunded_cents=0,
                status="PENDING_PAYMENT",
                provisional=event.provisional,
                cancel_reason=None,
                payment_id=event.payment_id,
                cart_id=event.cart_id,
                lines=[_line(line) for line in event.lines],
                expires_at=event.expires_at,
                timeline=[happened(env, status="PENDING_PAYMENT", amount_cents=event.total_cents)],
            )
        )

    @on(OrderConfirmed)
    def confirmed(self, rows: Rows[OrderRow], _: OrderConfirmed, env: Placed) -> None:
        _moved(rows, env, "CONFIRMED").provisional = False

    @on(OrderCompleted)
    def completed(self, rows: Rows[OrderRow], _: OrderCompleted, env: Placed) -> None:
        """What was shipped stays DELIVERED."""
        order = rows[env.stream_id]
        _moved(rows, env, "COMPLETED" if are_digital(order.lines) else order.status)

    @on(OrderStatusChanged)
    def status_changed(self, rows: Rows[OrderRow], event: OrderStatusChanged, env: Placed) -> None:
        _moved(rows, env, event.status)

    @on(OrderCancelled)
    def cancelled(self, rows: Rows[OrderRow], event: OrderCancelled, env: Placed) -> None:
        _moved(rows, env, "CANCELLED", reason=event.reason).cancel_reason = event.reason

    @on(OrderRefunded)
    def refunded(self, rows: Rows[OrderRow], event: OrderRefunded, env: Placed) -> None:
        status = "REFUNDED" if event.full else "PARTIALLY_REFUNDED"
        _moved(
            rows, env, status, amount_cents=event.amount_cents
        ).refunded_cents += event.amount_cents

    @on(OrderRefundReversed)
    def refund_reversed(
        self, rows: Rows[OrderRow], event: OrderRefundReversed, env: Placed
    ) -> None:
        order = rows[env.stream_id]
        order.refunded_cents -= event.amount_cents
        _moved(rows, env, order.status, amount_cents=event.amount_cents)


def _moved(rows: Rows[OrderRow], env: Placed, status: str, **said: str | int) -> OrderRow:
    order = rows[env.stream_id]
    order.status = status
    order.timeline.append(happened(env, status=status, **said))
    return order


def _line(line: OrderLine) -> OrderLineRow:
    return OrderLineRow(**msgspec.structs.asdict(line))
