"""Reports: a page of figures per group (day, seller or game), and the totals, in one snapshot."""

from collections.abc import Mapping
from datetime import date
from typing import Generic, Literal, TypeVar
from uuid import UUID

import msgspec

from queries.engine.paging import Bigint, ListQuery, SortOrder, page
from queries.engine.read_models import QueryResult, ReadModels

T = TypeVar("T", bound=msgspec.Struct)

GroupBy = Literal["day", "seller", "game"]

GROUPS: Mapping[GroupBy, str] = {"day": "day", "seller": "seller_id", "game": "game_id"}
"""The column that identifies a group."""


class Report(msgspec.Struct, Generic[T], frozen=True):
    """A page of groups, and the totals, one per currency: amounts of different currencies are never
    added up."""

    items: list[T]
    next_cursor: str | None
    totals: list[T]


class _Row(msgspec.Struct, Generic[T], frozen=True):
    figures: T
    totals: list[T]


def order_of(name: str, group_by: GroupBy, ranked_by: str) -> SortOrder:
    """Days in order; sellers and games by currency, then descending by `ranked_by` (SQL)."""
    if group_by == "day":
        return SortOrder(name, ("day", "currency"), tuple[date, str])
    keys = ("currency", f"-({ranked_by})", GROUPS[group_by])
    return SortOrder(f"{name} by {group_by}", keys, tuple[str, Bigint, UUID])


async def report(
    models: ReadModels,
    figures: type[T],
    groups: str,
    totals: str,
    order: SortOrder,
    values: dict[str, object],
    *,
    limit: int,
    cursor: str | None,
) -> QueryResult[Report[T]]:
    """The rows of two queries: a page of `groups` (whose columns the order names), and all
    `totals`. Raises BadCursor."""
    query = f"""
SELECT f.*, f AS figures, (SELECT json_agg(t) FROM ({totals}) AS t) AS totals
FROM ({groups}) AS f
"""
    row: type[_Row[T]] = _Row[figures]  # type: ignore[valid-type]
    found = await page(models, ListQuery(row, query), order, [], values, limit=limit, cursor=cursor)
    rows, next_cursor = found.value.items, found.value.next_cursor
    if rows:
        return found.map(
            lambda _: Report([row.figures for row in rows], next_cursor, rows[0].totals)
        )
    rest = await models.rows(figures, totals, **values)
    return QueryResult(Report([], None, rest.value), min(found.position, rest.position))
