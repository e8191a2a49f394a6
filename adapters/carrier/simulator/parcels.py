"""What the carrier knows of a parcel: what its seller said when handing it over."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct


class Parcel(Struct, frozen=True):
    """A parcel in transit. Several may have one tracking number."""

    shipment_id: UUID
    carrier: str
    tracking_number: str
    shipped_at: datetime


class ShopAway(Exception):
    """The parcels cannot be looked up at the moment."""
