"""The events of a stock item. Import them from `domain.inventory`."""

from datetime import datetime
from uuid import UUID

from domain.events import Event, event


@event("inventory.stock_created.v1")
class StockCreated(Event, frozen=True):
    """A stock item was opened for a physical game, with no units yet."""

    game_id: UUID
    seller_id: UUID
    sku: str


@event("inventory.stock_updated.v1")
class StockUpdated(Event, frozen=True):
    """The stock was counted: it has `total` units, and `available` of them
    are free to be reserved."""

    total: int
    available: int


@event("inventory.reserved.v1")
class Reserved(Event, frozen=True):
    """A cart reserved units (a soft hold) until `expires_at`. `buyer_id` is present when the cart
    is this shop's."""

    reservation_id: UUID
    cart_id: UUID
    quantity: int
    expires_at: datetime
    buyer_id: UUID | None = None


@event("inventory.reservation_changed.v1")
class ReservationChanged(Event, frozen=True):
    """The cart's reservation has a new quantity or expiry."""

    reservation_id: UUID
    quantity: int
    expires_at: datetime


@event("inventory.reservation_released.v1")
class ReservationReleased(Event, frozen=True):
    """The reservation or allocation was given up, and its units are available again."""

    reservation_id: UUID
    reason: str


@event("inventory.reservation_expired.v1")
class ReservationExpired(Event, frozen=True):
    """The reservation expired, or an allocation for an order of another system did; its units are
    available again."""

    reservation_id: UUID


@event("inventory.allocated.v1")
class Allocated(Event, frozen=True):
    """Checkout turned the reservation into an allocation (a hard hold) for an order, until the
    order is paid or cancelled."""

    reservation_id: UUID
    order_id: UUID
    quantity: int
    expires_at: datetime


@event("inventory.reservation_fulfilled.v1")
class ReservationFulfilled(Event, frozen=True):
    """The allocated units were sold and left the stock."""

    reservation_id: UUID
    order_id: UUID
    quantity: int


@event("inventory.low_stock.v1")
class LowStock(Event, frozen=True):
    """The units that no order holds fell to `threshold` or below; `available` is their number,
    including those reserved by carts. `quiet` is true when the seller was told less than an hour
    before."""

    available: int
    threshold: int
    at: datetime | None = None
    quiet: bool = False
