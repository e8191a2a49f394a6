"""An order: what is bought at which prices, and how far it has come. Its total is the sum of its
lines.

An unpaid order has a deadline; decisions treat it as expired from that moment on, whether or not
the deadline has fired. A paid order is never cancelled, only refunded, and never for more than its
total.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal, Protocol, get_args
from uuid import UUID

import msgspec

from domain.errors import Conflict, Invalid
from domain.events import PERSONAL, Event, event
from domain.money import check_amount

Kind = Literal["DIGITAL", "PHYSICAL"]
FulfilmentStatus = Literal["PROCESSING", "SHIPPED", "DELIVERED"]
Step = Literal["CONFIRMED", FulfilmentStatus]
Status = Literal[
    "PENDING_PAYMENT",
    "CONFIRMED",
    "PROCESSING",
    "SHIPPED",
    "DELIVERED",
    "COMPLETED",
    "CANCELLED",
    "PARTIALLY_REFUNDED",
    "REFUNDED",
]

CancelReason = Literal[
    "cancelled_by_buyer",
    "expired",
    "payment_failed",
    "payment_cancelled",
    "account_closed",
    "seller_closed",
]
"""Why an order is cancelled. `account_closed`: the buyer's account was closed; `seller_closed`:
that of one of its sellers."""

EXPIRED: CancelReason = "expired"
"""The cancellation reason of an overdue order."""


class OrderLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A quantity of one game. The price is in the order's currency; `fee_bps` is the platform's
    share in basis points, fixed when the order is placed."""

    line_id: UUID
    game_id: UUID
    seller_id: UUID
    kind: Kind
    title: str
    quantity: int
    unit_price_cents: int
    fee_bps: int
    shipment_id: UUID | None = None
    reservation_id: UUID | None = None


class Line(Protocol):
    """What the rules need of a line, from the log or from a read model."""

    @property
    def kind(self) -> str: ...

    @property
    def shipment_id(self) -> UUID | None: ...


def are_digital(lines: Iterable[Line]) -> bool:
    """Whether none of these lines is shipped."""
    return all(line.kind == "DIGITAL" for line in lines)


def shipments_of(lines: Iterable[Line]) -> list[UUID]:
    """The shipments of these lines, each once, in the order of the lines."""
    return list(dict.fromkeys(line.shipment_id for line in lines if line.shipment_id is not None))


# -- events ----------------------------------------------------------------------------------------


@event("order.created.v1", person="buyer_id")
class OrderCreated(Event, frozen=True):
    """The order was placed and awaits payment until `expires_at`. `shipping_address` is encrypted
    under the buyer's key."""

    buyer_id: UUID
    region: str
    currency: str
    total_cents: int
    provisional: bool
    payment_id: UUID
    expires_at: datetime
    lines: tuple[OrderLine, ...]
    cart_id: UUID | None = None
    shipping_address: Annotated[dict[str, str] | None, PERSONAL] = None


@event("order.confirmed.v1")
class OrderConfirmed(Event, frozen=True):
    """The order was paid."""

    payment_id: UUID


@event("order.completed.v1")
class OrderCompleted(Event, frozen=True):
    """The buyer received everything they ordered."""


@event("order.status_changed.v1")
class OrderStatusChanged(Event, frozen=True):
    """The order's fulfilment reached this status, through the progress of `shipment_id`."""

    status: FulfilmentStatus
    shipment_id: UUID


@event("order.cancelled.v1")
class OrderCancelled(Event, frozen=True):
    """The order was cancelled before it was paid."""

    reason: str


@event("order.refunded.v1")
class OrderRefunded(Event, frozen=True):
    """Money of the order was refunded. `amount_cents` is this refund alone; `full` is true once all
    refunds reach the total."""

    payment_id: UUID
    amount_cents: int
    currency: str
    full: bool


@event("order.refund_reversed.v1")
class OrderRefundReversed(Event, frozen=True):
    """A refund was reversed: `amount_cents` came back to the shop. What was bought stays as the
    refund left it, so the money is owed to the buyer and must be refunded again."""

    payment_id: UUID
    amount_cents: int
    currency: str


# -- state -----------------------------------------------------------------------------------------


class Order(msgspec.Struct, frozen=True):
    """The state of an order. `status` shows what happened last, a step of the fulfilment or a
    refund; `step` shows how far the fulfilment has come, independent of refunds."""

    buyer_id: UUID
    region: str
    currency: str
    total_cents: int
    provisional: bool
    payment_id: UUID
    expires_at: datetime
    lines: tuple[OrderLine, ...]
    cart_id: UUID | None = None
    shipping_address: dict[str, str] | None = None
    status: Status = "PENDING_PAYMENT"
    step: Step | None = None
    refunded_cents: int = 0
    cancel_reason: str | None = None

    @property
    def is_digital(self) -> bool:
        """Whether there is nothing to ship."""
        return are_digital(self.lines)

    @property
    def shipment_ids(self) -> list[UUID]:
        """Its shipments, one per seller with something to send."""
        return shipments_of(self.lines)

    def has_reservation(self, reservation_id: UUID) -> bool:
        """Whether this reservation belongs to one of the order's lines."""
        return any(line.reservation_id == reservation_id for line in self.lines)

    def is_overdue(self, now: datetime) -> bool:
        """Whether the order is unpaid past its deadline, whether or not the deadline has fired."""
        return self.status == "PENDING_PAYMENT" and now >= self.expires_at


def evolve(state: Order | None, event: Event) -> Order | None:  # noqa: PLR0911 - one line a fact
    match state, event:
        case _, OrderCreated():
            return Order(**msgspec.structs.asdict(event))
        case Order(), OrderConfirmed():
            return msgspec.structs.replace(
                state, status="CONFIRMED", step="CONFIRMED", provisional=False
            )
        case Order(), OrderCompleted() if state.is_digital:
            return msgspec.structs.replace(state, status="COMPLETED")
        case Order(), OrderStatusChanged():
            return msgspec.structs.replace(state, status=event.status, step=event.status)
        case Order(), OrderCancelled():
            return msgspec.structs.replace(state, status="CANCELLED", cancel_reason=event.reason)
        case Order(), OrderRefunded():
            status: Status = "REFUNDED" if event.full else "PARTIALLY_REFUNDED"
            refunded = state.refunded_cents + event.amount_cents
            return msgspec.structs.replace(state, status=status, refunded_cents=refunded)
        case Order(), OrderRefundReversed():
            return msgspec.structs.replace(
                state, refunded_cents=state.refunded_cents - event.amount_cents
            )
    return state


# -- rules -----------------------------------------------------------------------------------------


def check_lines(lines: Sequence[OrderLine], currency: str) -> None:
    """Raises Invalid: order_empty, invalid_quantity (a digital game has one line, of quantity 1),
    invalid_amount (of a line or of the total), invalid_currency."""
    if not lines:
        raise Invalid("order_empty", "an order has at least one line")
    for line in lines:
        if line.quantity < 1 or (line.kind == "DIGITAL" and line.quantity > 1):
            raise Invalid(
                "invalid_quantity", "the quantity is at least 1, and exactly 1 for a digital game"
            )
        check_amount(line.unit_price_cents, currency)
    check_amount(total_of(lines), currency)
    digital = [line.game_id for line in lines if line.kind == "DIGITAL"]
    if len(set(digital)) < len(digital):
        raise Invalid("invalid_quantity", "the quantity of a digital game is 1")


def total_of(lines: Sequence[OrderLine]) -> int:
    """Sum of the lines."""
    return sum(line.quantity * line.unit_price_cents for line in lines)


# -- decisions -------------------------------------------------------------------------------------


def place(
    *,
    buyer_id: UUID,
    region: str,
    currency: str,
    lines: Sequence[OrderLine],
    payment_id: UUID,
    expires_at: datetime,
    cart_id: UUID | None = None,
    shipping_address: dict[str, str] | None = None,
) -> list[Event]:
    """Place a provisional order for these lines, all priced in one currency.

    The region is the account's, which was checked on input. Raises Invalid:
    shipping_address_required, and as `check_lines`.
    """
    check_lines(lines, currency)
    if shipping_address is None and any(line.kind == "PHYSICAL" for line in lines):
        raise Invalid("shipping_address_required", "physical games need a shipping address")
    return [
        OrderCreated(
            buyer_id=buyer_id,
            region=region,
            currency=currency,
            total_cents=total_of(lines),
            provisional=True,
            payment_id=payment_id,
            expires_at=expires_at,
            lines=tuple(lines),
            cart_id=cart_id,
            shipping_address=shipping_address,
        )
    ]


def confirm(order: Order, paid_at: datetime) -> list[Event]:
    """Confirm the order, paid at `paid_at`; a purely digital order is thereby complete. Idempotent.

    Raises Conflict("order_cancelled") when the order was cancelled or overdue by then: the caller
    refunds.
    """
    if order.status == "CANCELLED" or order.is_overdue(paid_at):
        raise Conflict("order_cancelled", "the order was cancelled before the money arrived")
    if order.status != "PENDING_PAYMENT":
        return []
    confirmed = OrderConfirmed(payment_id=order.payment_id)
    return [confirmed, OrderCompleted()] if order.is_digital else [confirmed]


def advance_fulfilment(
    order: Order, status: FulfilmentStatus | None, shipment_id: UUID
) -> list[Event]:
    """Advance the order to the status of its shipments; DELIVERED completes it. Continues after a
    partial refund, but not once the order is refunded or cancelled."""
    if status is None or order.step is None or order.status in {"REFUNDED", "CANCELLED"}:
        return []
    steps = get_args(Step)
    if steps.index(status) <= steps.index(order.step):
        return []
    changed = OrderStatusChanged(status=status, shipment_id=shipment_id)
    return [changed, OrderCompleted()] if status == "DELIVERED" else [changed]


def cancel(order: Order, reason: CancelReason) -> list[Event]:
    """Cancel an unpaid order. Idempotent. Raises Conflict("order_not_cancellable")."""
    if order.status == "CANCELLED":
        return []
    if order.status != "PENDING_PAYMENT":
        raise Conflict("order_not_cancellable", "a paid order cannot be cancelled, only refunded")
    return [OrderCancelled(reason=reason)]


def expire(order: Order, now: datetime) -> list[Event]:
    """Cancel the order when its deadline fires. No-op unless it is overdue."""
    return [OrderCancelled(reason=EXPIRED)] if order.is_overdue(now) else []


def record_refund(order: Order, amount_cents: int) -> list[Event]:
    """Record that part or all of the money was refunded. No-op for a cancelled order: a refund of
    late money shows in the payment.

    The caller ensures that each refund is recorded once. Raises Conflict: order_not_paid,
    refund_exceeds_total; Invalid("invalid_amount").
    """
    if order.status == "CANCELLED":
        return []
    if order.status == "PENDING_PAYMENT":
        raise Conflict("order_not_paid", "there is nothing to refund")
    if amount_cents < min(1, order.total_cents):
        raise Invalid("invalid_amount", "a refund is at least one cent, unless the order was free")
    refunded_cents = order.refunded_cents + amount_cents
    all_back = order.status == "REFUNDED" and order.refunded_cents == order.total_cents
    if all_back or refunded_cents > order.total_cents:
        raise Conflict("refund_exceeds_total", "the refunds would exceed what was paid")
    return [
        OrderRefunded(
            payment_id=order.payment_id,
            amount_cents=amount_cents,
            currency=order.currency,
            full=refunded_cents == order.total_cents,
        )
    ]


def reverse_refund(order: Order, amount_cents: int) -> list[Event]:
    """Record that refunded money came back. No-op for a cancelled order, where it shows in the
    payment alone.

    The caller ensures that each reversal is recorded once.
    """
    if order.status == "CANCELLED" or amount_cents > order.refunded_cents:
        return []
    return [
        OrderRefundReversed(
            payment_id=order.payment_id, amount_cents=amount_cents, currency=order.currency
        )
    ]


# -- rules of paying -------------------------------------------------------------------------------


def must_be_payable(order: Order, *, paid: bool, now: datetime) -> None:
    """Raises Conflict: order_cancelled, order_expired (overdue, whether or not the deadline has
    fired), order_paid."""
    if order.status == "CANCELLED" and order.cancel_reason != EXPIRED:
        raise Conflict("order_cancelled", "the order was cancelled")
    if order.status == "CANCELLED" or (order.is_overdue(now) and not paid):
        raise Conflict("order_expired", "the time to pay the order is over")
    if paid or order.status != "PENDING_PAYMENT":
        raise Conflict("order_paid", "the order has already been paid")
