"""Shipments, as clients see them."""

from uuid import UUID

from pydantic import AliasPath, Field

from api.fields import Answer, Time


class ShipmentLineView(Answer):
    """A quantity of one game."""

    line_id: UUID
    game_id: UUID
    title: str
    quantity: int


class MovedShipment(Answer):
    """A shipment: PENDING (`provisional` until the order is paid), PROCESSING, SHIPPED, DELIVERED
    or CANCELLED."""

    id: UUID = Field(validation_alias=AliasPath("shipment_id"))
    shipment_id: UUID
    order_id: UUID
    seller_id: UUID
    lines: list[ShipmentLineView]
    provisional: bool
    status: str
    carrier: str | None
    tracking_number: str | None
    version: int


class ShipmentView(MovedShipment):
    """A shipment, with the reported time of each step."""

    processing_at: Time | None
    shipped_at: Time | None
    delivered_at: Time | None
    cancelled_at: Time | None
    created_at: Time
    updated_at: Time


class AddressedShipment(ShipmentView):
    """A shipment with its address, once it is paid: shown to its buyer, and to its seller until it
    has arrived."""

    shipping_address: dict[str, str] | None = None
