"""A stock item's state, and how events change it. Import it from `domain.inventory`."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from domain.events import Event
from domain.inventory.events import (
    Allocated,
    LowStock,
    ReservationChanged,
    ReservationExpired,
    ReservationFulfilled,
    ReservationReleased,
    Reserved,
    StockCreated,
    StockUpdated,
)
from domain.reservations import Reservation, Reservations


class Stock(msgspec.Struct, frozen=True):
    game_id: UUID
    seller_id: UUID
    sku: str
    total: int = 0
    reservations: Mapping[UUID, Reservation] = {}
    reserved: int = 0
    allocated: int = 0
    low_told_at: datetime | None = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "reservations", Reservations.convert(self.reservations))

    @property
    def holds(self) -> Reservations:
        """The reservations, with their look-ups."""
        assert isinstance(self.reservations, Reservations)
        return self.reservations

    @property
    def left(self) -> int:
        """Units not allocated to orders."""
        return self.total - self.allocated

    @property
    def available(self) -> int:
        """Units free to be reserved."""
        return self.total - self.reserved - self.allocated


def evolve(state: Stock | None, event: Event) -> Stock | None:  # noqa: PLR0911 - one case a fact
    replace = msgspec.structs.replace
    match state, event:
        case _, StockCreated():
            return Stock(event.game_id, event.seller_id, event.sku)
        case Stock(), StockUpdated(total=total):
            return replace(state, total=total)
        case Stock(), Reserved():
            held = Reservation(
                "SOFT", event.quantity, event.expires_at, event.cart_id, buyer_id=event.buyer_id
            )
            return _with(state, event.reservation_id, held)
        case Stock(), ReservationChanged():
            held = state.reservations[event.reservation_id]
            return _with(
                state,
                event.reservation_id,
                replace(held, quantity=event.quantity, expires_at=event.expires_at),
            )
        case Stock(), ReservationReleased() | ReservationExpired():
            return _with(state, event.reservation_id, None)
        case Stock(), Allocated():
            before = state.reservations.get(event.reservation_id)
            cart_id, buyer_id = (
                (None, None) if before is None else (before.cart_id, before.buyer_id)
            )
            held = Reservation(
                "HARD", event.quantity, event.expires_at, cart_id, event.order_id, buyer_id
            )
            return _with(state, event.reservation_id, held)
        case Stock(), LowStock(quiet=False, at=at):
            return replace(state, low_told_at=at)
        case Stock(), ReservationFulfilled():
            return replace(
                _with(state, event.reservation_id, None), total=state.total - event.quantity
            )
    return state


def _with(stock: Stock, reservation_id: UUID, after: Reservation | None) -> Stock:
    """The stock with one hold set, or removed (None). The sums are kept in step, as a best-seller
    has very many holds."""
    before = stock.reservations.get(reservation_id)
    sums = {"SOFT": stock.reserved, "HARD": stock.allocated}
    for held, sign in ((before, -1), (after, 1)):
        if held is not None:
            sums[held.kind] += sign * held.quantity
    reservations = stock.holds.replaced(reservation_id, after)
    return msgspec.structs.replace(
        stock, reservations=reservations, reserved=sums["SOFT"], allocated=sums["HARD"]
    )
