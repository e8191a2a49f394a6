"""Sales: figures per day, seller or game, summed over the orders of a period."""

from datetime import date
from uuid import UUID

import msgspec

from queries.engine.paging import MAX_LIMIT
from queries.engine.read_models import QueryResult, ReadModels
from queries.orders.reports import GROUPS, GroupBy, Report, order_of, report


class Figures(msgspec.Struct, frozen=True):
    """Sales in one currency, of a day, seller or game (none named: of all). `orders` counts the
    orders with such a line; `gross_cents` is what was paid, `refunded_cents` what has been refunded
    of it; `fee_cents` is the platform's share of the rest.
    """

    currency: str
    orders: int
    units: int
    gross_cents: int
    refunded_cents: int
    fee_cents: int
    day: date | None = None
    seller_id: UUID | None = None
    game_id: UUID | None = None


_FIGURES = """
    s.currency, count(DISTINCT s.order_id) AS orders, sum(line.units)
    AS units, sum(line.gross_cents) AS gross_cents,
    sum(line.refunded_cents) AS refunded_cents, sum(line.fee_cents) AS fee_cents
FROM @sales s
CROSS JOIN LATERAL jsonb_to_recordset(s.lines) AS line (
    seller_id uuid, game_id uuid, units bigint, gross_cents bigint, refunded_cents bigint,
    fee_cents bigint
)
WHERE s.day BETWEEN %(first)s AND %(last)s AND (%(currency)s::text IS NULL
    OR s.currency = %(currency)s)
"""
_OF_SELLER = """
AND s.order_id IN (SELECT order_id FROM @seller_orders WHERE seller_id = %(seller)s)
AND line.seller_id = %(seller)s
"""


async def sales(
    models: ReadModels,
    *,
    group_by: GroupBy,
    first: date,
    last: date,
    currency: str | None = None,
    seller_id: UUID | None = None,
    limit: int = MAX_LIMIT,
    cursor: str | None = None,
) -> QueryResult[Report[Figures]]:
    """Sales from the first to the last day (UTC): days in order; sellers and games in each
    currency, those with the most sales first. With `seller_id`, only that seller's lines. Raises
    BadCursor.
    """
    sums = _FIGURES if seller_id is None else _FIGURES + _OF_SELLER
    name = GROUPS[group_by]
    key = f"s.{name}" if group_by == "day" else f"line.{name}"
    return await report(
        models,
        Figures,
        f"SELECT {key} AS {name}, {sums} GROUP BY {key}, s.currency",
        f"SELECT {sums} GROUP BY s.currency ORDER BY s.currency",
        order_of("sales", group_by, "gross_cents"),
        {"first": first, "last": last, "currency": currency, "seller": seller_id},
        limit=limit,
        cursor=cursor,
    )
