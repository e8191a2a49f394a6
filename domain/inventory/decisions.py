"""What may happen to a stock item. Import it from `domain.inventory`."""

from collections.abc import Collection
from datetime import datetime, timedelta
from itertools import chain
from uuid import UUID

from domain.errors import Conflict, Invalid
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
from domain.inventory.state import Stock, evolve
from domain.reservations import Reservation

MAX_QUANTITY = 1_000_000
"""Units: more of one game than any shop has."""

FREED_AT_ONCE = 1_000
"""How many overdue holds one append ends; it ends more only when a reservation needs their
units."""

LOW_STOCK_PAUSE = timedelta(hours=1)
"""The shortest time between two loud low-stock events of a game."""


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
