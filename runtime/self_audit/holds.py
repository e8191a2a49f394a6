"""No reservation without a holder: each belongs to a cart or an order that still wants the
units."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from commands.aggregates import CART, ORDER, STOCK
from domain.reservations import Reservation
from eventstore.consumers.reader import Page
from eventstore.consumers.streams import folded
from runtime.self_audit.invariant import Judged, Looked, Moments, Progress, Suspect, judged
from runtime.self_audit.moment import Moment, Part

_AT_ONCE = 20
"""How many stocks are folded together."""

_WITH_HOLDS = """
SELECT stock_id FROM @stock WHERE stock_id = hold_id AND reserved + allocated > 0 ORDER BY stock_id
"""


class HoldsHaveHolders:
    """Folds stocks from the log, with the carts and orders that hold their units: these are
    appended together, so nothing lags. A holder that is no stream of ours is another system's."""

    name = "hold_has_holder"
    meaning = (
        "Each reserved unit has an open cart with that line, each allocated unit an unpaid order"
        " with it; or another system's, which are bound by a deadline."
    )

    def sample(self, moment: Moment, part: Part) -> Looked:
        ids = moment.short(part.streams.get(STOCK.kind, ()))
        return Looked(len(ids), _without_holder(moment, ids))

    def whole(self, moments: Moments, progress: Progress) -> Looked:
        with moments() as moment:
            ids = [row["stock_id"] for row in moment.rows(_WITH_HOLDS)]
        suspects: list[Suspect] = []
        for start in range(0, len(ids), _AT_ONCE):
            with moments() as moment:
                suspects += _without_holder(moment, ids[start : start + _AT_ONCE])
            progress(min(start + _AT_ONCE, len(ids)), len(ids))
        return Looked(len(ids), suspects)

    def again(self, moment: Moment, subjects: Sequence[str]) -> Judged:
        stocks = list({UUID(subject.split(" ")[0]) for subject in subjects})
        return judged(subjects, _without_holder(moment, stocks))


def _without_holder(moment: Moment, stock_ids: Sequence[UUID]) -> list[Suspect]:
    stocks = {
        stock_id: stock
        for stock_id, page in moment.events(stock_ids).items()
        if (stock := folded(STOCK, page)) is not None
    }
    holders = {
        holder
        for stock in stocks.values()
        for held in stock.holds.values()
        for holder in (held.cart_id, held.order_id)
        if holder is not None
    }
    pages = moment.events(holders)
    return [
        Suspect(f"{stock_id} {hold_id}", f"{held.quantity} units held for {why}")
        for stock_id, stock in stocks.items()
        for hold_id, held in stock.holds.items()
        if (why := _why_not(hold_id, held, pages))
    ]


def _why_not(hold_id: UUID, held: Reservation, pages: Mapping[UUID, Page]) -> str:
    """Why a hold should have ended; empty if it should not."""
    if held.order_id is not None:
        order = folded(ORDER, pages[held.order_id])
        if order is None or (order.status == "PENDING_PAYMENT" and order.has_reservation(hold_id)):
            return ""
        return f"order {held.order_id}, which is {order.status}"
    cart = None if held.cart_id is None else folded(CART, pages[held.cart_id])
    if cart is None:
        return ""
    wanted = any(item.reservation_id == hold_id for item in cart.items.values())
    if wanted and cart.status in {"ACTIVE", "CHECKOUT"}:
        return ""
    return f"cart {held.cart_id}, which is {cart.status}" + ("" if wanted else " without that line")
