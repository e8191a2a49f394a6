"""The values by which games on sale can be filtered, and how many games have each."""

from typing import Literal

import msgspec

from projections.search.document import filter_key
from queries.engine.paging import Bigint, ListQuery, Page, SortOrder, page
from queries.engine.read_models import QueryResult, ReadModels

Facet = Literal["category", "genre"]


class FacetValue(msgspec.Struct, frozen=True):
    """A value in its most frequent spelling, and the number of games on sale that have it."""

    value: str
    count: int


class _Counted(msgspec.Struct, frozen=True):
    key: str
    games: int


class _Spelling(msgspec.Struct, frozen=True):
    value: str


_COUNTS = ListQuery(
    _Counted,
    """
SELECT key, count(*) AS games
FROM @games g, jsonb_array_elements_text(g.filters) AS key
WHERE g.status = 'ACTIVE' AND starts_with(key, %(prefix)s)
GROUP BY key
""",
)
"""By the keys of `filters`, so that spellings that fold alike are counted together, and a game that
has two of them once."""

_MOST_FIRST = SortOrder("most games", ("-games", 'key COLLATE "C"'), tuple[Bigint, str])

_SPELLED = """
SELECT value
FROM @games g, {values} AS each (value)
WHERE g.status = 'ACTIVE' AND g.filters ?| %(keys)s::text[]
GROUP BY value ORDER BY count(*) DESC, value COLLATE "C"
"""
_SPELLINGS: dict[Facet, str] = {
    "category": _SPELLED.format(values="LATERAL (SELECT g.category)"),
    "genre": _SPELLED.format(values="jsonb_array_elements_text(g.genres)"),
}


async def facet_values(
    models: ReadModels, facet: Facet, *, limit: int = 50, cursor: str | None = None
) -> QueryResult[Page[FacetValue]]:
    """The values of a facet, those of most games first. Raises BadCursor."""
    prefix = filter_key(facet, "")
    counts = await page(
        models, _COUNTS, _MOST_FIRST, [], {"prefix": prefix}, limit=limit, cursor=cursor
    )
    keys = [each.key for each in counts.value.items]
    spellings = await models.rows(_Spelling, _SPELLINGS[facet], keys=keys)
    shown: dict[str, str] = {}
    for each in spellings.value:
        shown.setdefault(filter_key(facet, each.value), each.value)
    values = [
        # a spelling that has gone since the count is shown folded
        FacetValue(shown.get(each.key, each.key.removeprefix(prefix)), each.games)
        for each in counts.value.items
    ]
    return QueryResult(
        Page(values, counts.value.next_cursor), min(counts.position, spellings.position)
    )
