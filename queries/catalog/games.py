"""Queries of games: one game, browsing, a seller's own list. Search by words is in
`queries.search.searching`."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal
from uuid import UUID

import msgspec

from projections.cleaning import without_nul
from projections.models.games import MAIN_CURRENCY, Game, anywhere
from projections.search.document import (
    ANYWHERE,
    EVERYWHERE,
    NO_PRICE,
    P,
    filter_key,
    price_in,
    price_key,
    region_key,
)
from queries.engine.paging import Bigint, ListQuery, Page, SortOrder, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels

Sort = Literal["newest", "price", "-price", "release_date", "title"]
StatusFilter = Literal["ACTIVE", "DRAFT", "SUSPENDED", "RETIRED", "ANY"]


class Browse(msgspec.Struct, frozen=True, kw_only=True):
    """What to browse. All given filters must match; texts are compared folded (case, accents).

    Price bounds are inclusive, in cents of the currency, and compare the region's price or else
    that of everywhere; a game that is priced in another currency there has none. `sort`: `newest`
    lists the latest listed first, `release_date` the latest released; games without a price come
    last. Only games of one `status` are shown, by default those on sale; or of ANY.
    """

    category: str | None = None
    genre: str | None = None
    tag: str | None = None
    platform: str | None = None
    kind: str | None = None
    seller_id: UUID | None = None
    status: StatusFilter = "ACTIVE"
    price_min: int | None = None
    price_max: int | None = None
    region: str = EVERYWHERE
    currency: str = MAIN_CURRENCY
    sort: Sort = "newest"
    limit: int = 20
    cursor: str | None = None


class _TitledGame(msgspec.Struct, frozen=True):
    title: str
    game_id: UUID


_LISTING = ListQuery(Game, "SELECT * FROM @games")
_NEWEST = newest_first("created_position")

_GAME = "SELECT * FROM @games WHERE game_id = %(id)s"
_GAMES = "SELECT * FROM @games WHERE game_id = ANY (%(ids)s)"

_TITLES = "SELECT game_id, title FROM @games WHERE game_id = ANY (%(ids)s)"

_CURRENCIES = """
SELECT first.currency
FROM unnest(%(keys)s::text[]) WITH ORDINALITY AS asked (key, place)
CROSS JOIN LATERAL (
    SELECT of.currency, count(*) AS games
    FROM @games g, jsonb_object_keys(g.region_prices -> asked.key) AS of (currency)
    WHERE g.status = 'ACTIVE' AND g.region_prices ? asked.key
    GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 1
) AS first
ORDER BY asked.place LIMIT 1
"""

_PRICE_THERE = """(
    coalesce(region_prices -> %(region)s::text,
    region_prices -> 'everywhere') ->> %(currency)s::text
)::bigint"""


async def game(models: ReadModels, game_id: UUID) -> QueryResult[Game | None]:
    """One game, whatever its status."""
    return await models.first(Game, _GAME, id=game_id)


async def browse(models: ReadModels, wanted: Browse) -> QueryResult[Page[Game]]:
    """Games on sale, or of another status. Raises BadCursor."""
    price = _price(wanted)
    conditions: list[str] = [] if wanted.status == "ANY" else [f"status = '{wanted.status}'"]
    values: dict[str, object] = {"region": price_key(wanted.region), "currency": wanted.currency}
    filters = filters_of(wanted)
    if filters:
        conditions, values = (
            [*conditions, "filters @> %(filters)s::jsonb"],
            {**values, "filters": filters},
        )
    if wanted.seller_id is not None:
        conditions, values = (
            [*conditions, "seller_id = %(seller)s"],
            {**values, "seller": wanted.seller_id},
        )
    if wanted.price_min is not None:
        conditions, values = (
            [*conditions, f"{price} >= %(min)s"],
            {**values, "min": wanted.price_min},
        )
    if wanted.price_max is not None:
        conditions, values = (
            [*conditions, f"{price} <= %(max)s"],
            {**values, "max": wanted.price_max},
        )
    return await page(
        models,
        _LISTING,
        _order(wanted),
        conditions,
        values,
        limit=wanted.limit,
        cursor=wanted.cursor,
    )


_HAS_TEXT = "(strpos(lower(title), lower(%(text)s)) > 0 OR strpos(lower(sku), lower(%(text)s)) > 0)"


async def by_seller(
    models: ReadModels,
    seller_id: UUID,
    *,
    status: str | None = None,
    text: str = "",
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[Game]]:
    """A seller's games, including drafts and retired ones, the newest first; those whose title or
    SKU has the text, in small or capital letters. Raises BadCursor."""
    conditions, values = ["seller_id = %(seller)s"], {"seller": seller_id}  # type: tuple[list[str], dict[str, object]]
    if status is not None:
        conditions, values = [*conditions, "status = %(status)s"], {**values, "status": status}
    if text:
        conditions, values = [*conditions, _HAS_TEXT], {**values, "text": text}
    return await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)


async def games(models: ReadModels, game_ids: Sequence[UUID]) -> QueryResult[list[Game]]:
    """These games, in no order, without those that do not exist."""
    return await models.rows(Game, _GAMES, ids=list(game_ids))


async def titles(models: ReadModels, game_ids: Sequence[UUID]) -> QueryResult[dict[UUID, str]]:
    """The titles of these games, by id."""
    found = await models.rows(_TitledGame, _TITLES, ids=list(game_ids))
    return found.map(lambda rows: {row.game_id: row.title for row in rows})


def price_there(prices: Iterable[P], region: str) -> P | None:
    """A game's price in a region: the region's own, or that of everywhere; None where it is not
    sold."""
    return price_in(prices, region)


def filters_of(wanted: Browse) -> str:
    """The filters as a JSON array that a game's filters must contain; empty when there are none."""
    asked = {
        name: getattr(wanted, name) for name in ("category", "genre", "tag", "platform", "kind")
    }
    keys = [
        without_nul(filter_key(name, value)) for name, value in asked.items() if value is not None
    ]
    return msgspec.json.encode(keys).decode() if keys else ""


async def currency_of(models: ReadModels, region: str) -> QueryResult[str]:
    """A region's currency: the commonest one of its own prices among the games on sale; without
    such prices, of those of everywhere, and else of any."""
    found = await models.rows(
        _Priced, _CURRENCIES, keys=[region_key(region), region_key(EVERYWHERE), ANYWHERE]
    )
    return found.map(lambda rows: rows[0].currency if rows else MAIN_CURRENCY)


_CODE = re.compile("[A-Z]{3}")


class _Priced(msgspec.Struct, frozen=True):
    currency: str


def _price(wanted: Browse) -> str:
    if wanted.region == EVERYWHERE and _CODE.fullmatch(wanted.currency):  # written as in the index
        return anywhere(wanted.currency)
    return _PRICE_THERE


def _order(wanted: Browse) -> SortOrder:
    price = _price(wanted)
    match wanted.sort:
        case "price":
            return SortOrder(
                "price", (f"coalesce({price}, {NO_PRICE})", "game_id"), tuple[Bigint, UUID]
            )
        case "-price":
            keys = (f"coalesce({price}, -{NO_PRICE})", "game_id")
            return SortOrder("-price", keys, tuple[Bigint, UUID], descending=True)
        case "release_date":
            keys = ('released COLLATE "C"', "game_id")
            return SortOrder("released", keys, tuple[str, UUID], descending=True)
        case "title":
            return SortOrder("title", ('title_key COLLATE "C"', "game_id"), tuple[str, UUID])
        case "newest":
            return _NEWEST
