"""Cart analytics: figures per day, seller or game, summed over the carts created in a period.

A cart counts on the day on which it was created, whenever it ends. It is open until it is completed
(its order is paid; a later refund does not matter), abandoned with something in it (its time ran
out, its order was not paid, its buyer discarded it or closed their account), or ends empty. Rates
are of completed and abandoned carts only.
"""

from collections.abc import Iterable
from datetime import date
from uuid import UUID

import msgspec

from queries.engine.paging import MAX_LIMIT
from queries.engine.read_models import QueryResult, ReadModels
from queries.orders.reports import GROUPS, GroupBy, Report, order_of, report

RATE_DIGITS = 4


class CartCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of carts. `created` = `open` + `completed` + `abandoned` + those that ended empty;
    `with_items` contain something, or did at their end; `checked_out` became an order, paid or not.
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
        """The carts that were abandoned with something in them."""
        return self.expired + self.payment_failed + self.discarded

    @property
    def conversion_rate(self) -> float | None:
        """completed / (completed + abandoned); None when no cart has ended."""
        return self._share(self.completed)

    @property
    def abandonment_rate(self) -> float | None:
        """abandoned / (completed + abandoned); None when no cart has ended."""
        return self._share(self.abandoned)

    def _share(self, some: int) -> float | None:
        ended = self.completed + self.abandoned
        return round(some / ended, RATE_DIGITS) if ended else None


class CartFigures(CartCounts, frozen=True, kw_only=True):
    """Carts in one currency, created on a day, or with lines of a seller or game (none named: all),
    and the value of those lines in completed and abandoned carts."""

    currency: str
    completed_cents: int
    abandoned_cents: int
    day: date | None = None
    seller_id: UUID | None = None
    game_id: UUID | None = None


def overall(totals: Iterable[CartCounts]) -> CartCounts:
    """Numbers of carts over all currencies. They can be added up, as each cart has one currency;
    values cannot."""
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
) -> QueryResult[Report[CartFigures]]:
    """Figures of the carts created from the first to the last day (UTC): days in order; sellers and
    games in each currency, those with the most abandoned carts first. Raises BadCursor.
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
