"""A stock item: how many units of a physical game there are, and who holds them.

available + reserved + allocated = total, each at least zero, always. A cart holds units softly for
some minutes; checkout turns that into a hard hold for an order, which ends in a sale, or is
released when the order is cancelled. An overdue soft hold counts as gone, whether or not an event
says so yet. A hard one ends with its order or, for an order of another system, when its deadline is
fired.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from itertools import chain
from uuid import UUID

import msgspec

from domain.errors import Conflict, Invalid
from domain.events import Event, event
from domain.reservations import Reservation, Reservations

MAX_QUANTITY = 1_000_000
"""Units: more of one game than any shop has."""

FREED_AT_ONCE = 1_000
"""How many overdue holds one append ends; it ends more only when a reservation needs their
units."""

LOW_STOCK_PAUSE = timedelta(hours=1)
"""The shortest time between two loud low-stock events of a game."""

# -- events ----------------------------------------------------------------------------------------


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


# -- state -----------------------------------------------------------------------------------------


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


# -- decisions -------------------------------------------------------------------------------------


def create(stock: Stock | None, game_id: UUID, seller_id: UUID, sku: str) -> list[Event]:
    """Open a stock item for a physical game. Idempotent."""
    return [StockCreated(game_id=game_id, seller_id=seller_id, sku=sku)] if stock is None else []


def set_total(stock: Stock, total: int, threshold: int, *, now: datetime) -> list[Event]:
    """Set the total number of units, including those held.

    Raises Invalid("invalid_quantity"); Conflict("stock_below_commitments") when more than that are
    held.
    """
    if not 0 <= total <= MAX_QUANTITY:
        raise Invalid("invalid_quantity", f"a quantity lies between 0 and {MAX_QUANTITY}")
    held = stock.reserved + stock.allocated
    if total < held:
        raise Conflict(
            "stock_below_commitments", "carts and orders hold more units than that", committed=held
        )
    if total == stock.total:
        return []
    return [
        StockUpdated(total=total, available=total - held),
        *low_stock(stock, total - stock.allocated, threshold, now),
    ]


def reserve(
    stock: Stock,
    reservation_id: UUID,
    cart_id: UUID,
    quantity: int,
    expires_at: datetime,
    *,
    now: datetime,
    buyer_id: UUID | None = None,
) -> list[Event]:
    """Reserve units for a cart. Overdue holds are ended as far as their units are needed.

    Raises Invalid("invalid_quantity"); Conflict("insufficient_stock") with `available` and
    `product_id`.
    """
    check_quantity(quantity)
    expired, freed = _freed(stock, now, quantity - stock.available)
    if quantity > freed.available:
        raise _insufficient(freed)
    reserved = Reserved(
        reservation_id=reservation_id,
        cart_id=cart_id,
        quantity=quantity,
        expires_at=expires_at,
        buyer_id=buyer_id,
    )
    return [*expired, reserved]


def change(
    stock: Stock, reservation_id: UUID, quantity: int, expires_at: datetime, *, now: datetime
) -> list[Event]:
    """Change a reservation's quantity, or extend it.

    Raises Invalid("invalid_quantity"); NotFound("reservation_not_found"); Conflict:
    insufficient_stock (with `available` and `product_id`), reservation_expired,
    reservation_allocated.
    """
    check_quantity(quantity)
    held = _soft(stock, reservation_id, now)
    expired, freed = _freed(stock, now, quantity - held.quantity - stock.available)
    if quantity - held.quantity > freed.available:
        raise _insufficient(freed)
    changed = ReservationChanged(
        reservation_id=reservation_id, quantity=quantity, expires_at=expires_at
    )
    return [*expired, changed]


def allocate(
    stock: Stock,
    reservation_id: UUID,
    order_id: UUID,
    expires_at: datetime,
    *,
    now: datetime,
    threshold: int,
) -> list[Event]:
    """Turn a cart's reservation into an order's allocation.

    Raises NotFound("reservation_not_found"); Conflict: reservation_expired, reservation_allocated.
    """
    held = _soft(stock, reservation_id, now)
    allocated = Allocated(
        reservation_id=reservation_id,
        order_id=order_id,
        quantity=held.quantity,
        expires_at=expires_at,
    )
    return [allocated, *low_stock(stock, stock.left - held.quantity, threshold, now)]


def release(stock: Stock, reservation_id: UUID, reason: str) -> list[Event]:
    """Give up a hold, soft or hard. Idempotent."""
    if reservation_id not in stock.reservations:
        return []
    return [ReservationReleased(reservation_id=reservation_id, reason=reason)]


def expire(
    stock: Stock, now: datetime, foreign: Collection[UUID] = (), *, units: int = 0
) -> list[Event]:
    """End overdue soft holds, and overdue hard ones that are `foreign`: for orders of other
    systems, which nothing else ends.

    Ends the longest overdue first, and at most FREED_AT_ONCE unless more are needed to free
    `units`.
    """
    expired: list[Event] = []
    hard = (each for each in stock.holds.due("HARD", now) if each in foreign) if foreign else ()
    for reservation_id in chain(stock.holds.due("SOFT", now), hard):
        if len(expired) >= FREED_AT_ONCE and units <= 0:
            break
        expired.append(ReservationExpired(reservation_id=reservation_id))
        units -= stock.reservations[reservation_id].quantity
    return expired


def confirm_sale(stock: Stock, reservation_id: UUID) -> list[Event]:
    """Sell what a paid order has allocated. Raises NotFound("reservation_not_found"),
    Conflict("not_allocated")."""
    held = stock.holds.get_held(reservation_id)
    if held.kind != "HARD" or held.order_id is None:
        raise Conflict("not_allocated", "only units that an order holds can be sold")
    return [
        ReservationFulfilled(
            reservation_id=reservation_id, order_id=held.order_id, quantity=held.quantity
        )
    ]


def restock(stock: Stock, quantity: int) -> list[Event]:
    """Put sold units that never left back into the stock."""
    return [StockUpdated(total=stock.total + quantity, available=stock.available + quantity)]


# -- rules -----------------------------------------------------------------------------------------


def check_quantity(quantity: int) -> None:
    """Raises Invalid("invalid_quantity") unless the quantity lies between 1 and MAX_QUANTITY."""
    if not 1 <= quantity <= MAX_QUANTITY:
        raise Invalid("invalid_quantity", f"a quantity lies between 1 and {MAX_QUANTITY}")


def free_for(stock: Stock, buyer_id: UUID, cart_id: UUID, now: datetime, limit: int) -> int:
    """How many more units a buyer can hold: those available, up to the `limit` per buyer."""
    overdue = sum(stock.reservations[each].quantity for each in stock.holds.due("SOFT", now))
    return max(0, min(stock.available + overdue, limit - _held_by(stock, buyer_id, cart_id, now)))


def check_limit(stock: Stock, buyer_id: UUID, cart_id: UUID, now: datetime, limit: int) -> None:
    """Raises Conflict("quantity_limit"), with `limit` and `product_id`, when the buyer holds more
    than `limit` units, in this cart and in their unpaid orders together."""
    if _held_by(stock, buyer_id, cart_id, now) > limit:
        raise Conflict(
            "quantity_limit",
            f"a buyer may hold at most {limit} units of this game, in the cart and in unpaid orders"
            " together",
            limit=limit,
            product_id=str(stock.game_id),
        )


def _held_by(stock: Stock, buyer_id: UUID, cart_id: UUID, now: datetime) -> int:
    """Units in the buyer's holds that are not overdue. Holds from before `buyer_id` existed are
    found by the cart alone."""
    held = [stock.reservations[each] for each in stock.holds.of(buyer_id, cart_id)]
    theirs = [each for each in held if each.buyer_id == buyer_id or each.cart_id == cart_id]
    return sum(each.quantity for each in theirs if each.lasts(now))


def _soft(stock: Stock, reservation_id: UUID, now: datetime) -> Reservation:
    held = stock.holds.get_held(reservation_id)
    if held.kind == "HARD":
        raise Conflict("reservation_allocated", "an order holds the reservation")
    if now >= held.expires_at:
        raise Conflict("reservation_expired", "the reservation has expired")
    return held


def low_stock(stock: Stock, left: int, threshold: int, now: datetime) -> list[Event]:
    """A LowStock event when the stock has just fallen to the threshold; `quiet` within
    LOW_STOCK_PAUSE of the last loud one."""
    if not stock.left > threshold >= left:
        return []
    quiet = stock.low_told_at is not None and now - stock.low_told_at < LOW_STOCK_PAUSE
    return [LowStock(available=left, threshold=threshold, at=now, quiet=quiet)]


def _freed(stock: Stock, now: datetime, units: int) -> tuple[list[Event], Stock]:
    """The events that end overdue holds, freeing `units` if possible, and the stock after them."""
    expired = expire(stock, now, units=units)
    for each in expired:
        stock = evolve(stock, each) or stock
    return expired, stock


def _insufficient(stock: Stock) -> Conflict:
    return Conflict(
        "insufficient_stock",
        f"only {stock.available} units are available",
        available=stock.available,
        product_id=str(stock.game_id),
    )
