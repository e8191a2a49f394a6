"""What becomes of carts: figures per day, seller or game, added up from the carts begun in a
period.

A cart counts on the day on which it was begun, whatever day its end came. It is open, and then
completed (its order is paid; a later refund changes nothing), abandoned with something in it (its
time ran out, its order was not paid, its buyer threw it away or closed their account), or it ended
empty. Rates are of the carts that were completed or abandoned: neither open nor emptied ones count.
"""

from collections.abc import Iterable
from datetime import date
from uuid import UUID

import msgspec

from queries.paging import MAX_LIMIT
from queries.read_models import Answer, ReadModels
from queries.reports import GROUPS, GroupBy, Report, order_of, report

RATE_DIGITS = 4


class CartCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many carts there were. `created` = `open` + `completed` + `abandoned` + those that ended
    empty; `with_items` have something in them, or had at their end; `checked_out` became an order,
    paid or not.
    """

    created: int = 0
    with_items: int = 0
    open: int = 0
    checked_out: int = 0
    completed: int = 0
    expired: int = 0
    payment_failed: int = 0
    discarded: int = 0

    @property
    def abandoned(self) -> int:
        """Those that came to nothing, with something in them."""
        return self.expired + self.payment_failed + self.discarded

    @property
    def conversion_rate(self) -> float | None:
        """completed / (completed + abandoned); None of no cart."""
        return self._share(self.completed)

    @property
    def abandonment_rate(self) -> float | None:
        """abandoned / (completed + abandoned); None of no cart."""
        return self._share(self.abandoned)

    def _share(self, some: int) -> float | None:
        ended = self.completed + self.abandoned
        return round(some / ended, RATE_DIGITS) if ended else None


class CartFigures(CartCounts, frozen=True, kw_only=True):
    """Carts in one currency, begun on the day, or with lines of the seller or game, that it names
    (none: all), and what those lines cost, in carts that were completed or abandoned."""

    currency: str
    completed_cents: int
    abandoned_cents: int
    day: date | None = None
    seller_id: UUID | None = None
    game_id: UUID | None = None


def overall(totals: Iterable[CartCounts]) -> CartCounts:
    """Carts of all currencies: how many there are can be added up, for each has one; what they are
    worth cannot."""
    names, totals = CartCounts.__struct_fields__, list(totals)
    return CartCounts(**{name: sum(getattr(each, name) for each in totals) for name in names})


_SUMS = """
    c.currency,
    count(DISTINCT c.cart_id) AS created,
    count(DISTINCT c.cart_id) FILTER (WHERE filled) AS with_items,
    count(DISTINCT c.cart_id) FILTER (WHERE c.outcome IS NULL) AS open,
    count(DISTINCT c.cart_id) FILTER (WHERE c.checked_out) AS checked_out,
    count(DISTINCT c.cart_id) FILTER (WHERE completed) AS completed,
    count(DISTINCT c.cart_id) FILTER (WHERE filled AND c.outcome = 'expired') AS expired,
    count(DISTINCT c.cart_id) FILTER (WHERE filled AND c.outcome = 'payment_failed')
    AS payment_failed,
    count(DISTINCT c.cart_id) FILTER (WHERE filled
    AND c.outcome IN ('discarded', 'account_closed')) AS discarded,
    coalesce(sum(line.units * line.unit_price_cents) FILTER (WHERE completed), 0)
    AS completed_cents,
    coalesce(sum(line.units * line.unit_price_cents) FILTER (WHERE filled AND ended), 0)
    AS abandoned_cents
FROM @cart_outcomes c
LEFT JOIN LATERAL jsonb_to_recordset(c.lines) AS line (
    seller_id uuid, game_id uuid, units bigint, unit_price_cents bigint
) ON true
CROSS JOIN LATERAL (
    SELECT
        line.game_id IS NOT NULL AS filled,
        c.outcome = 'completed' AS completed,
        c.outcome IN ('expired', 'payment_failed', 'discarded', 'account_closed') AS ended
) AS is_so
WHERE c.day BETWEEN %(first)s AND %(last)s AND (%(currency)s::text IS NULL
    OR c.currency = %(currency)s)
"""


async def cart_analytics(
    models: ReadModels,
    *,
    group_by: GroupBy,
    first: date,
    last: date,
    currency: str | None = None,
    limit: int = MAX_LIMIT,
    cursor: str | None = None,
) -> Answer[Report[CartFigures]]:
    """What became of the carts begun from the first to the last day (UTC): days in order, sellers
    and games by how many carts with something of theirs were abandoned, in each currency, the most
    first. Raises BadCursor.
    """
    name = GROUPS[group_by]
    key, which = (f"c.{name}", "true") if group_by == "day" else (f"line.{name}", "filled")
    return await report(
        models,
        CartFigures,
        f"SELECT {key} AS {name}, {_SUMS} AND {which} GROUP BY {key}, c.currency",
        f"SELECT {_SUMS} GROUP BY c.currency ORDER BY c.currency",
        order_of("carts", group_by, "expired + payment_failed + discarded"),
        {"first": first, "last": last, "currency": currency},
        limit=limit,
        cursor=cursor,
    )
