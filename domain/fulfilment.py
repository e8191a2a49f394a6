"""A shipment: what one seller sends to one buyer for one order; only that seller moves it.

A shipment is provisional until the order is paid, then goes PENDING → PROCESSING → SHIPPED →
DELIVERED. The order's status follows its shipments.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from domain.errors import Conflict, Invalid
from domain.events import Event, event
from domain.orders import FulfilmentStatus
from domain.text import comparison_key, is_visible, trimmed

Status = Literal["PENDING", "PROCESSING", "SHIPPED", "DELIVERED", "CANCELLED"]
CLOCK_SKEW = timedelta(seconds=300)
"""How far a reporter's clock may differ from ours, either way."""

_STEPS: Sequence[Status] = ("PENDING", "PROCESSING", "SHIPPED", "DELIVERED")


class ShipmentLine(msgspec.Struct, frozen=True):
    line_id: UUID
    game_id: UUID
    title: str
    quantity: int


@event("shipment.created.v1")
class ShipmentCreated(Event, frozen=True):
    """The order was placed: the seller is to send these lines once it is paid."""

    order_id: UUID
    seller_id: UUID
    lines: tuple[ShipmentLine, ...]


@event("shipment.confirmed.v1")
class ShipmentConfirmed(Event, frozen=True):
    """The order was paid: the seller may start."""


@event("shipment.status_updated.v1")
class ShipmentStatusUpdated(Event, frozen=True):
    """The shipment reached this status at `at`, the time given by the reporter. `reason` is present
    when an operator set the status by hand."""

    status: Status
    at: datetime
    carrier: str | None = None
    tracking_number: str | None = None
    reason: str | None = None


@event("shipment.delivery_corrected.v1")
class DeliveryCorrected(Event, frozen=True):
    """An operator corrected the reported time of delivery to `at`."""

    at: datetime
    reason: str


class Shipment(msgspec.Struct, frozen=True):
    order_id: UUID
    seller_id: UUID
    lines: tuple[ShipmentLine, ...]
    provisional: bool = True
    status: Status = "PENDING"
    carrier: str | None = None
    tracking_number: str | None = None
    shipped_at: datetime | None = None
    delivered_at: datetime | None = None


def evolve(state: Shipment | None, event: Event) -> Shipment | None:
    match state, event:
        case _, ShipmentCreated():
            return Shipment(event.order_id, event.seller_id, event.lines)
        case Shipment(), ShipmentConfirmed():
            return msgspec.structs.replace(state, provisional=False)
        case Shipment(), ShipmentStatusUpdated():
            return msgspec.structs.replace(
                state,
                status=event.status,
                carrier=event.carrier or state.carrier,
                tracking_number=event.tracking_number or state.tracking_number,
                shipped_at=event.at if event.status == "SHIPPED" else state.shipped_at,
                delivered_at=event.at if event.status == "DELIVERED" else state.delivered_at,
            )
        case Shipment(), DeliveryCorrected(at=at):
            return msgspec.structs.replace(state, delivered_at=at)
    return state


# -- decisions -------------------------------------------------------------------------------------


def create(order_id: UUID, seller_id: UUID, lines: Sequence[ShipmentLine]) -> list[Event]:
    """Create a seller's provisional shipment for an order."""
    return [ShipmentCreated(order_id=order_id, seller_id=seller_id, lines=tuple(lines))]


def confirm(shipment: Shipment) -> list[Event]:
    """Release the shipment to its seller once the order is paid. Idempotent."""
    return [ShipmentConfirmed()] if shipment.provisional and shipment.status == "PENDING" else []


def cancel(shipment: Shipment, now: datetime) -> list[Event]:
    """Cancel the shipment with its order. No-op once it is on its way."""
    if shipment.status not in {"PENDING", "PROCESSING"}:
        return []
    return [ShipmentStatusUpdated(status="CANCELLED", at=now)]


def process(shipment: Shipment, now: datetime) -> list[Event]:
    """Start preparing the shipment. Raises Conflict: shipment_provisional, shipment_not_pending."""
    _must_be(shipment, "PENDING")
    return [ShipmentStatusUpdated(status="PROCESSING", at=now)]


def ship(shipment: Shipment, carrier: str, tracking_number: str, now: datetime) -> list[Event]:
    """Hand the shipment over to a carrier.

    Raises Conflict: shipment_provisional, shipment_not_processing; Invalid("invalid_tracking").
    """
    _must_be(shipment, "PROCESSING")
    if not is_visible(carrier) or not is_visible(tracking_number):
        raise Invalid("invalid_tracking", "the carrier and its tracking number are required")
    number = trimmed(tracking_number)
    return [
        ShipmentStatusUpdated(
            status="SHIPPED", at=now, carrier=trimmed(carrier), tracking_number=number
        )
    ]


def tracking_key(number: str) -> str:
    """A key that is equal for all spellings of a tracking number: labels group its letters and
    digits by blanks and hyphens."""
    key = comparison_key(number)
    return "".join(filter(str.isalnum, key)) or key


def deliver(
    shipment: Shipment, at: datetime | None, now: datetime, reason: str | None = None
) -> list[Event]:
    """Mark the shipment as delivered (`at` None: now). Idempotent, as carriers repeat themselves.

    Raises Conflict("shipment_not_shipped"); Invalid("invalid_delivered_at").
    """
    if shipment.status == "DELIVERED":
        return []
    _must_be(shipment, "SHIPPED")
    return [
        ShipmentStatusUpdated(
            status="DELIVERED", at=_delivered_at(shipment, at or now, now), reason=reason
        )
    ]


def deliver_by_hand(
    shipment: Shipment, at: datetime | None, now: datetime, reason: str
) -> list[Event]:
    """Mark the shipment as delivered by an operator, or correct the time of its delivery. Raises as
    `deliver`."""
    if shipment.status != "DELIVERED" or at is None or at == shipment.delivered_at:
        return deliver(shipment, at, now, reason)
    return [DeliveryCorrected(at=_delivered_at(shipment, at, now), reason=reason)]


def _delivered_at(shipment: Shipment, at: datetime, now: datetime) -> datetime:
    """The time, neither before the shipment was shipped nor in the
    future, within the clock skew."""
    check_not_ahead(at, now)
    if shipment.shipped_at is not None and at < shipment.shipped_at - CLOCK_SKEW:
        raise Invalid("invalid_delivered_at", "the delivery is before the shipment")
    return min(at, now)


def check_not_ahead(at: datetime, now: datetime) -> None:
    """Raises Invalid("invalid_delivered_at") for a time in the future."""
    if at > now + CLOCK_SKEW:
        raise Invalid("invalid_delivered_at", "the delivery is in the future")


def order_status(shipments: Sequence[Status]) -> FulfilmentStatus | None:
    """The order's fulfilment status, from those of its shipments; None while none has started.
    Ignores cancelled shipments."""
    steps = [_STEPS.index(status) for status in shipments if status != "CANCELLED"]
    if not steps or max(steps) == 0:
        return None
    if min(steps) == _STEPS.index("DELIVERED"):
        return "DELIVERED"
    return "SHIPPED" if min(steps) >= _STEPS.index("SHIPPED") else "PROCESSING"


def _must_be(shipment: Shipment, status: Status) -> None:
    if shipment.provisional:
        raise Conflict("shipment_provisional", "the order is not paid yet")
    if shipment.status != status:
        raise Conflict(f"shipment_not_{status.lower()}", f"the shipment is {shipment.status}")
