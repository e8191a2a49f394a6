"""When something is due: whoever fires deadlines asks this table, and decides on the aggregate itself."""

from datetime import datetime, timedelta
from uuid import UUID

from domain.cart import CartAbandoned, CartCreated, CheckoutInitiated, ItemAdded, ItemChanged, ItemRemoved
from domain.orders import OrderCancelled, OrderConfirmed, OrderCreated
from domain.payments import DepositFailed, PaymentIntentCancelled, PaymentProcessed, PaymentRequested
from domain.transactions import TransactionCompleted, TransactionCreated, TransactionFailed
from eventstore.log import Envelope
from projections.projection import Projection, Row, Rows, on

ORDER_PAYMENT = "order.payment"
"""The kind of deadline by which an order must be paid."""

DEPOSIT_PAYMENT = "deposit.payment"
"""… by which a deposit must be paid; of the payment's stream."""

TRANSFER = "transfer"
"""… by which a transfer should have come to its end: whoever drove it is gone, and another goes on."""

CART = "cart"
"""… by which a cart must have been changed again, or checked out."""

TRANSFER_PATIENCE = timedelta(seconds=5)


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


def _deposit_of(_: object, env: Envelope) -> tuple[UUID, str]:
    return env.stream_id, DEPOSIT_PAYMENT


def _transfer_of(_: object, env: Envelope) -> tuple[UUID, str]:
    return env.stream_id, TRANSFER


def _cart_of(_: object, env: Envelope) -> tuple[UUID, str]:
    return env.stream_id, CART


class Deadlines(Projection[DeadlineRow]):
    """Every deadline that has neither been met nor fired: of carts, of orders and deposits as long as they await
    payment, and of transfers under way.
    """

    name, version, row = "deadlines", 3, DeadlineRow

    @on(OrderCreated, key=_payment_of)
    def order_created(self, rows: Rows[DeadlineRow], event: OrderCreated, env: Envelope) -> None:
        rows.put(DeadlineRow(env.stream_id, ORDER_PAYMENT, event.expires_at, env.version))

    @on(OrderConfirmed, key=_payment_of)
    @on(OrderCancelled, key=_payment_of)
    def order_settled(self, rows: Rows[DeadlineRow], event: OrderConfirmed | OrderCancelled, env: Envelope) -> None:
        rows.delete(_payment_of(event, env))

    @on(PaymentRequested, key=_deposit_of)
    def payment_requested(self, rows: Rows[DeadlineRow], event: PaymentRequested, env: Envelope) -> None:
        if event.transaction_id is not None:
            rows.put(DeadlineRow(env.stream_id, DEPOSIT_PAYMENT, event.expires_at, env.version))

    @on(PaymentProcessed, key=_deposit_of)
    @on(DepositFailed, key=_deposit_of)
    @on(PaymentIntentCancelled, key=_deposit_of)
    def deposit_settled(
        self, rows: Rows[DeadlineRow], event: PaymentProcessed | DepositFailed | PaymentIntentCancelled, env: Envelope
    ) -> None:
        rows.delete(_deposit_of(event, env))

    @on(TransactionCreated, key=_transfer_of)
    def transaction_created(self, rows: Rows[DeadlineRow], event: TransactionCreated, env: Envelope) -> None:
        if event.type == "transfer":
            rows.put(DeadlineRow(env.stream_id, TRANSFER, env.recorded_at + TRANSFER_PATIENCE, env.version))

    @on(TransactionCompleted, key=_transfer_of)
    @on(TransactionFailed, key=_transfer_of)
    def transaction_settled(
        self, rows: Rows[DeadlineRow], event: TransactionCompleted | TransactionFailed, env: Envelope
    ) -> None:
        rows.delete(_transfer_of(event, env))

    @on(CartCreated, key=_cart_of)
    @on(ItemAdded, key=_cart_of)
    @on(ItemChanged, key=_cart_of)
    @on(ItemRemoved, key=_cart_of)
    def cart_changed(
        self, rows: Rows[DeadlineRow], event: CartCreated | ItemAdded | ItemChanged | ItemRemoved, env: Envelope
    ) -> None:
        rows.put(DeadlineRow(env.stream_id, CART, event.expires_at, env.version))

    @on(CheckoutInitiated, key=_cart_of)
    @on(CartAbandoned, key=_cart_of)
    def cart_left(self, rows: Rows[DeadlineRow], event: CheckoutInitiated | CartAbandoned, env: Envelope) -> None:
        rows.delete(_cart_of(event, env))
