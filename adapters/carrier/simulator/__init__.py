"""A simulated parcel carrier: a page to move parcels, and signed notices of their delivery, in its
own process with its own memory."""

from adapters.carrier.simulator.app import create_app
from adapters.carrier.simulator.parcels import Parcel, ShopAway

__all__ = ["Parcel", "ShopAway", "create_app"]
