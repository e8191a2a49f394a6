"""What a shop's window shows: the games that sell best, and those that are reduced."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from projections.models.games import Game, Reduction
from projections.search.document import EVERYWHERE, region_key
from queries.engine.paging import Bigint, ListQuery, Page, SortOrder, page
from queries.engine.read_models import QueryResult, ReadModels

_ON_SALE = "status = 'ACTIVE'"

_SOLD = ListQuery(Game, "SELECT g.*, s.sold FROM @game_sales s JOIN @games g USING (game_id)")
_MOST_SOLD = SortOrder("sold", ("sold", "game_id"), tuple[Bigint, UUID], descending=True)

_ALL = ListQuery(Game, "SELECT * FROM @games")
_LAST_REDUCED = SortOrder(
    "reduced", ("reduced_until", "game_id"), tuple[datetime, UUID], descending=True
)
_REDUCED_THERE = """(
    CASE WHEN reductions ? %(region)s::text THEN reductions -> %(region)s::text
    ELSE reductions -> 'everywhere' END ->> 'until'
)::timestamptz > %(now)s"""


async def best_selling(
    models: ReadModels, *, limit: int = 50, cursor: str | None = None
) -> QueryResult[Page[Game]]:
    """The games on sale that were sold at least once, those sold most often first. Raises
    BadCursor."""
    conditions = [_ON_SALE, "sold > 0"]
    return await page(models, _SOLD, _MOST_SOLD, conditions, {}, limit=limit, cursor=cursor)


async def reduced(
    models: ReadModels, region: str, now: datetime, *, limit: int = 50, cursor: str | None = None
) -> QueryResult[Page[Game]]:
    """The games on sale whose price is reduced in a region, the last reduced first. Raises
    BadCursor."""
    conditions = [_ON_SALE, "reduced_until > %(now)s", _REDUCED_THERE]
    values: dict[str, object] = {"region": region_key(region), "now": now}
    return await page(models, _ALL, _LAST_REDUCED, conditions, values, limit=limit, cursor=cursor)


def reduction_in(
    reductions: Mapping[str, Reduction | None], region: str, now: datetime
) -> Reduction | None:
    """What a game's price in a region is reduced from now, if it is."""
    key = region_key(region)
    found = reductions.get(key if key in reductions else region_key(EVERYWHERE))
    return found if found is not None and now < found.until else None
