"""Shipments: what each seller has to send for an order, and its status.

The address is personal: it stays in the order's stream, under its person's key.
"""

from datetime import datetime
from uuid import UUID

import msgspec

from domain.fulfilment import (
    DeliveryCorrected,
    ShipmentConfirmed,
    ShipmentCreated,
    ShipmentLine,
    ShipmentStatusUpdated,
)
from eventstore.log import Placed
from projections.fields import Happened, happened
from projections.projection import Projection, Rows, StreamRow, on


class ShipmentLineRow(msgspec.Struct, frozen=True):
    """A quantity of one game."""

    line_id: UUID
    game_id: UUID
    title: str
    quantity: int


class Shipment(StreamRow):
    """A shipment, `provisional` until its order is paid. The times of its steps are as reported;
    `history` lists its events."""

    KEY = ("shipment_id",)
    INDEXES = (
        "order_id",
        "seller_id, created_position",
        "status, created_position",
        "created_position",
    )

    shipment_id: UUID
    order_id: UUID
    seller_id: UUID
    lines: list[ShipmentLineRow]
    provisional: bool
    status: str
    carrier: str | None
    tracking_number: str | None
    processing_at: datetime | None
    shipped_at: datetime | None
    delivered_at: datetime | None
    cancelled_at: datetime | None
    history: list[Happened]


class Shipments(Projection[Shipment]):
    """Every shipment by its id."""

    name, version, row = "shipments", 1, Shipment

    @on(ShipmentCreated)
    def created(self, rows: Rows[Shipment], event: ShipmentCreated, env: Placed) -> None:
        rows.put(
            Shipment(
                shipment_id=env.stream_id,
                order_id=event.order_id,
                seller_id=event.seller_id,
                lines=[_line(line) for line in event.lines],
                provisional=True,
                status="PENDING",
                carrier=None,
                tracking_number=None,
                processing_at=None,
                shipped_at=None,
                delivered_at=None,
                cancelled_at=None,
                history=[happened(env, status="PENDING")],
            )
        )

    @on(ShipmentConfirmed)
    def confirmed(self, rows: Rows[Shipment], _: ShipmentConfirmed, env: Placed) -> None:
        _changed(rows, env).provisional = False

    @on(ShipmentStatusUpdated)
    def status_updated(
        self, rows: Rows[Shipment], event: ShipmentStatusUpdated, env: Placed
    ) -> None:
        shipment, at = _changed(rows, env, event.status, event.reason), event.at
        shipment.status = event.status
        shipment.carrier = event.carrier or shipment.carrier
        shipment.tracking_number = event.tracking_number or shipment.tracking_number
        match event.status:
            case "PROCESSING":
                shipment.processing_at = at
            case "SHIPPED":
                shipment.shipped_at = at
            case "DELIVERED":
                shipment.delivered_at = at
            case "CANCELLED":
                shipment.cancelled_at = at

    @on(DeliveryCorrected)
    def delivery_corrected(
        self, rows: Rows[Shipment], event: DeliveryCorrected, env: Placed
    ) -> None:
        _changed(rows, env, reason=event.reason).delivered_at = event.at


def _changed(
    rows: Rows[Shipment], env: Placed, status: str | None = None, reason: str | None = None
) -> Shipment:
    shipment = rows[env.stream_id]
    shipment.history.append(happened(env, status=status, reason=reason))
    return shipment


def _line(line: ShipmentLine) -> ShipmentLineRow:
    return ShipmentLineRow(line.line_id, line.game_id, line.title, line.quantity)
