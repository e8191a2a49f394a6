"""What was sold: figures per day, seller or game, added up from the orders of a period."""

from collections.abc import Mapping
from datetime import date
from typing import Literal
from uuid import UUID

import msgspec

from queries.read_models import Answer, ReadModels

GroupBy = Literal["day", "seller", "game"]

_GROUPS: Mapping[GroupBy, tuple[str, str]] = {
    "day": ("s.day AS day", "day, currency"),
    "seller": ("line.seller_id AS seller_id", "currency, gross_cents DESC, seller_id"),
    "game": ("line.game_id AS game_id", "currency, gross_cents DESC, game_id"),
}
"""By what the rows are grouped, and in which order the groups are listed."""


class Figures(msgspec.Struct, frozen=True):
    """Sales in one currency, of the day, seller or game that it names (none: of all). `orders` have a line
    among them; `gross_cents` is what was paid, `refunded_cents` what went back of it, by now; `fee_cents` is what the
    platform kept of the rest for selling others' games.
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


class Report(msgspec.Struct, frozen=True):
    """The figures of each group, and those of all, one for each currency: amounts of several are never added up."""

    items: list[Figures]
    totals: list[Figures]


_SUMS = (
    "s.currency, count(DISTINCT s.order_id) AS orders, sum(line.units) AS units, sum(line.gross_cents) AS gross_cents,"
    " sum(line.refunded_cents) AS refunded_cents, sum(line.fee_cents) AS fee_cents"
)
_SOURCE = (
    "{sales} s CROSS JOIN LATERAL jsonb_to_recordset(s.lines) AS line (seller_id uuid, game_id uuid, units bigint,"
    " gross_cents bigint, refunded_cents bigint, fee_cents bigint)"
    " WHERE s.day BETWEEN %(first)s AND %(last)s AND (%(currency)s::text IS NULL OR s.currency = %(currency)s)"
)


async def sales(
    models: ReadModels, *, group_by: GroupBy, first: date, last: date, currency: str | None = None
) -> Answer[Report]:
    """What was sold from the first to the last day (UTC): days in order, sellers and games by
    what they sold in each currency, the most first.
    """
    group, order = _GROUPS[group_by]
    key, _, name = group.partition(" AS ")
    query = (
        f"SELECT {group}, {_SUMS} FROM {_SOURCE} GROUP BY GROUPING SETS (({key}, s.currency), (s.currency))"
        f" ORDER BY {order}"
    )
    found = await models.rows(Figures, query, first=first, last=last, currency=currency)
    return found.map(lambda rows: _report(rows, name))


def _report(rows: list[Figures], group: str) -> Report:
    items = [row for row in rows if getattr(row, group) is not None]
    return Report(items, [row for row in rows if getattr(row, group) is None])
