"""Views of shipments."""

from uuid import UUID

from pydantic import AliasPath, Field

from api.fields import Answer, Time


class ShipmentLineView(Answer):
    """A game and its quantity."""

    line_id: UUID
    game_id: UUID
    title: str
    quantity: int


class MovedShipment(Answer):
    """A shipment: PENDING, PROCESSING, SHIPPED, DELIVERED or CANCELLED. It is `provisional` until
    the order is paid."""

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
    """A shipment with the reported time of each step."""

    processing_at: Time | None
    shipped_at: Time | None
    delivered_at: Time | None
    cancelled_at: Time | None
    created_at: Time
    updated_at: Time


class AddressedShipment(ShipmentView):
    """A shipment with its address. The address is present once the order is paid: always for the
    buyer, and for the seller until the shipment has arrived."""

    shipping_address: dict[str, str] | None = None
