"""When something is due: whoever fires deadlines asks this table, and decides on the aggregate itself."""

from datetime import datetime
from uuid import UUID

from domain.orders import OrderCancelled, OrderConfirmed, OrderCreated
from eventstore.log import Envelope
from projections.projection import Projection, Row, Rows, on

ORDER_PAYMENT = "order.payment"
"""The kind of deadline by which an order must be paid."""


class DeadlineRow(Row):
    """A stream's deadline of one kind; `version` is that of the event that set it."""

    KEY = ("stream_id", "kind")
    INDEXES = ("due_at",)

    stream_id: UUID
    kind: str
    due_at: datetime
    version: int


def _payment_of(_: object, env: Envelope) -> tuple[UUID, str]:
    return env.stream_id, ORDER_PAYMENT


class Deadlines(Projection[DeadlineRow]):
    """Every deadline that has neither been met nor fired: of orders, as long as they await payment."""

    name, version, row = "deadlines", 1, DeadlineRow

    @on(OrderCreated, key=_payment_of)
    def order_created(self, rows: Rows[DeadlineRow], event: OrderCreated, env: Envelope) -> None:
        rows.put(DeadlineRow(env.stream_id, ORDER_PAYMENT, event.expires_at, env.version))

    @on(OrderConfirmed, key=_payment_of)
    @on(OrderCancelled, key=_payment_of)
    def order_settled(self, rows: Rows[DeadlineRow], event: OrderConfirmed | OrderCancelled, env: Envelope) -> None:
        rows.delete(_payment_of(event, env))
