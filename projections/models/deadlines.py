"""Deadlines and when they are due. Whoever fires them reads this table, and decides on the
aggregate."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from domain.cart import (
    CartAbandoned,
    CartCreated,
    CheckoutInitiated,
    ItemAdded,
    ItemChanged,
    ItemRemoved,
    ItemRepriced,
)
from domain.inventory import (
    Allocated,
    ReservationChanged,
    ReservationExpired,
    ReservationFulfilled,
    ReservationReleased,
    Reserved,
)
from domain.orders import OrderCancelled, OrderConfirmed, OrderCreated
from domain.payments import (
    DepositFailed,
    PaymentIntentCancelled,
    PaymentProcessed,
    PaymentRequested,
)
from domain.transactions import TransactionCompleted, TransactionCreated, TransactionFailed
from eventstore.log import Placed
from projections.projection import Projection, Row, Rows, on

ORDER_PAYMENT = "order.payment"
"""The kind of deadline by which an order must be paid."""

DEPOSIT_PAYMENT = "deposit.payment"
"""The kind of deadline by which a deposit must be paid; it belongs to the payment's stream."""

TRANSFER = "transfer"
"""The kind of deadline by which a transfer should have ended; after that, another process continues
it."""

CART = "cart"
"""The kind of deadline by which a cart must be changed again, or checked out."""

HOLD = "hold"
"""The kind of deadline at which a hold by another system's cart or order ends. Our carts and orders
end their holds themselves."""

TRANSFER_PATIENCE = timedelta(seconds=5)


class Deadline(Row):
    """A stream's deadline of one kind; `version` is that of the event that set it. `subject_id` is
    the reservation for a hold, else the stream.
    """

    KEY = ("subject_id", "kind")
    INDEXES = ("due_at",)

    subject_id: UUID
    kind: str
    stream_id: UUID
    due_at: datetime
    version: int


def _payment_of(_: object, env: Placed) -> tuple[UUID, str]:
    return env.stream_id, ORDER_PAYMENT


def _deposit_of(_: object, env: Placed) -> tuple[UUID, str]:
    return env.stream_id, DEPOSIT_PAYMENT


def _transfer_of(_: object, env: Placed) -> tuple[UUID, str]:
    return env.stream_id, TRANSFER


def _cart_of(_: object, env: Placed) -> tuple[UUID, str]:
    return env.stream_id, CART


HoldEnd = ReservationReleased | ReservationExpired | ReservationFulfilled


def _hold_of(
    event: Reserved | ReservationChanged | Allocated | HoldEnd, _: Placed
) -> tuple[UUID, str]:
    return event.reservation_id, HOLD


def _reservation_of(event: Reserved, env: Placed) -> list[tuple[UUID, str]]:
    return [_hold_of(event, env), (event.cart_id, CART)]


def _allocation_of(event: Allocated, env: Placed) -> list[tuple[UUID, str]]:
    return [_hold_of(event, env), (event.order_id, ORDER_PAYMENT)]


def _order_of(event: OrderCreated, env: Placed) -> list[tuple[UUID, str]]:
    holds = [(line.reservation_id, HOLD) for line in event.lines if line.reservation_id is not None]
    return [_payment_of(event, env), *holds]


def _line_of(event: ItemAdded, env: Placed) -> list[tuple[UUID, str]]:
    cart = _cart_of(event, env)
    return [cart] if event.reservation_id is None else [cart, (event.reservation_id, HOLD)]


def _due(env: Placed, kind: str, at: datetime, subject_id: UUID | None = None) -> Deadline:
    return Deadline(subject_id or env.stream_id, kind, env.stream_id, at, env.version)


class Deadlines(Projection[Deadline]):
    """Every deadline that is neither met nor fired: of carts, of orders and deposits that await
    payment, of transfers under way, and of other systems' holds.
    """

    name, version, row = "deadlines", 5, Deadline

    def streams_of(self, key: tuple[UUID, str]) -> Sequence[UUID] | None:
        subject_id, kind = key
        return None if kind == HOLD else [subject_id]

    @on(OrderCreated, key=_order_of)
    def order_created(self, rows: Rows[Deadline], event: OrderCreated, env: Placed) -> None:
        """Drop the deadlines of its lines' holds, which are now this shop's."""
        for hold in _order_of(event, env)[1:]:
            rows.delete(hold)
        rows.put(_due(env, ORDER_PAYMENT, event.expires_at))

    @on(OrderConfirmed, key=_payment_of)
    @on(OrderCancelled, key=_payment_of)
    def order_settled(
        self, rows: Rows[Deadline], event: OrderConfirmed | OrderCancelled, env: Placed
    ) -> None:
        rows.delete(_payment_of(event, env))

    @on(PaymentRequested, key=_deposit_of)
    def payment_requested(self, rows: Rows[Deadline], event: PaymentRequested, env: Placed) -> None:
        if event.transaction_id is not None:
            rows.put(_due(env, DEPOSIT_PAYMENT, event.expires_at))

    @on(PaymentProcessed, key=_deposit_of)
    @on(DepositFailed, key=_deposit_of)
    @on(PaymentIntentCancelled, key=_deposit_of)
    def deposit_settled(
        self,
        rows: Rows[Deadline],
        event: PaymentProcessed | DepositFailed | PaymentIntentCancelled,
        env: Placed,
    ) -> None:
        rows.delete(_deposit_of(event, env))

    @on(TransactionCreated, key=_transfer_of)
    def transaction_created(
        self, rows: Rows[Deadline], event: TransactionCreated, env: Placed
    ) -> None:
        if event.type == "transfer":
            rows.put(_due(env, TRANSFER, env.occurred_at + TRANSFER_PATIENCE))

    @on(TransactionCompleted, key=_transfer_of)
    @on(TransactionFailed, key=_transfer_of)
    def transaction_settled(
        self, rows: Rows[Deadline], event: TransactionCompleted | TransactionFailed, env: Placed
    ) -> None:
        rows.delete(_transfer_of(event, env))

    @on(CartCreated, key=_cart_of)
    @on(ItemChanged, key=_cart_of)
    @on(ItemRepriced, key=_cart_of)
    @on(ItemRemoved, key=_cart_of)
    def cart_changed(
        self,
        rows: Rows[Deadline],
        event: CartCreated | ItemChanged | ItemRepriced | ItemRemoved,
        env: Placed,
    ) -> None:
        rows.put(_due(env, CART, event.expires_at))

    @on(ItemAdded, key=_line_of)
    def item_added(self, rows: Rows[Deadline], event: ItemAdded, env: Placed) -> None:
        """Drop the deadline of its hold, which is this shop's. In their common append, either event
        may come first."""
        rows.put(_due(env, CART, event.expires_at))
        if event.reservation_id is not None:
            rows.delete((event.reservation_id, HOLD))

    @on(CheckoutInitiated, key=_cart_of)
    @on(CartAbandoned, key=_cart_of)
    def cart_left(
        self, rows: Rows[Deadline], event: CheckoutInitiated | CartAbandoned, env: Placed
    ) -> None:
        rows.delete(_cart_of(event, env))

    @on(Reserved, key=_reservation_of)
    def reserved(self, rows: Rows[Deadline], event: Reserved, env: Placed) -> None:
        if rows.get((event.cart_id, CART)) is None:
            rows.put(_due(env, HOLD, event.expires_at, event.reservation_id))

    @on(ReservationChanged, key=_hold_of)
    def reservation_changed(
        self, rows: Rows[Deadline], event: ReservationChanged, env: Placed
    ) -> None:
        if rows.get(_hold_of(event, env)) is not None:
            rows.put(_due(env, HOLD, event.expires_at, event.reservation_id))

    @on(Allocated, key=_allocation_of)
    def allocated(self, rows: Rows[Deadline], event: Allocated, env: Placed) -> None:
        """Drop the deadline if the order is this shop's, else move it. In their common append,
        either event may come first."""
        hold = _hold_of(event, env)
        if rows.get((event.order_id, ORDER_PAYMENT)) is not None:
            rows.delete(hold)
        elif rows.get(hold) is not None:
            rows.put(_due(env, HOLD, event.expires_at, event.reservation_id))

    @on(ReservationReleased, key=_hold_of)
    @on(ReservationExpired, key=_hold_of)
    @on(ReservationFulfilled, key=_hold_of)
    def hold_ended(self, rows: Rows[Deadline], event: HoldEnd, env: Placed) -> None:
        rows.delete(_hold_of(event, env))
