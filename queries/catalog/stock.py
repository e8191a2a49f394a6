"""Stock for sellers, and availability for buyers."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from domain.ids import stock_id
from eventstore.log import Log
from projections.as_of import row_as_of
from projections.models.games import PriceRow, Reduction
from projections.models.stock import StockItems, item_key
from queries.engine.paging import ListQuery, Page, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels


class Stock(msgspec.Struct, frozen=True):
    """The stock of a physical game. `version` is the stream's, 0 for a game without stock
    records."""

    product_id: UUID
    seller_id: UUID
    sku: str
    total: int
    available: int
    reserved: int
    allocated: int
    version: int
    created_at: datetime
    updated_at: datetime


class ListedStock(Stock, frozen=True, kw_only=True):
    """The stock of a game in a list, with the game's title and status."""

    title: str
    status: str


class Offer(msgspec.Struct, frozen=True):
    """A game's images, prices and availability for lists: `available` as in `Availability`, but
    None for a draft, too; `until` is when it changes without an event, as a hold expires."""

    product_id: UUID
    available: int | None
    until: datetime | None
    image_ids: list[UUID]
    prices: list[PriceRow]
    reductions: dict[str, Reduction | None]


class Availability(msgspec.Struct, frozen=True):
    """How many units of a game are available now; None for a digital game, which is unlimited."""

    product_id: UUID
    available: int | None
    on_sale: bool

    @property
    def in_stock(self) -> bool:
        """Whether any unit is available."""
        return self.on_sale and (self.available is None or self.available > 0)


_ALL_STOCK = """
SELECT
    g.game_id AS product_id, g.seller_id, g.sku, g.title,
    coalesce(s.total, 0) AS total,
    coalesce(s.available, 0) AS available,
    coalesce(s.reserved, 0) AS reserved,
    coalesce(s.allocated, 0) AS allocated,
    coalesce(s.version, 0) AS version,
    coalesce(s.created_at, g.created_at) AS created_at,
    coalesce(s.updated_at, g.updated_at) AS updated_at,
    g.status, g.created_position
FROM @games g LEFT JOIN @stock s ON s.product_id = g.game_id
WHERE g.kind = 'PHYSICAL'
"""
_STOCK = f"{_ALL_STOCK} AND g.game_id = %(id)s"

_LISTING = ListQuery(ListedStock, _ALL_STOCK)
_NEWEST = newest_first("created_position")

# An expired soft hold is available, even if no event says so yet.
OFFERS = """
SELECT
    g.game_id AS product_id, g.image_ids, g.prices, g.reductions, g.status = 'ACTIVE' AS on_sale,
    CASE
        WHEN g.kind = 'DIGITAL' OR g.status = 'DRAFT' THEN NULL
        WHEN g.status <> 'ACTIVE' THEN 0
        ELSE coalesce(s.available + (
            SELECT coalesce(sum(h.reserved), 0) FROM @stock h
            WHERE h.stock_id = s.stock_id AND h.reserved > 0 AND h.expires_at <= %(now)s
        ), 0)::bigint
    END AS available,
    (
        SELECT min(h.expires_at) FROM @stock h
        WHERE h.stock_id = s.stock_id AND h.reserved > 0 AND h.expires_at > %(now)s
    ) AS until
FROM @games g LEFT JOIN @stock s ON s.product_id = g.game_id
"""
"""SQL: every game as an `Offer` at the time `now`."""

_OFFERS = f"{OFFERS} WHERE g.game_id = ANY (%(ids)s)"
_SEEN_OFFERS = f"""{_OFFERS} AND (
    g.status NOT IN ('DRAFT', 'SUSPENDED') OR %(all)s OR g.seller_id = %(viewer)s::uuid
)"""
_AVAILABILITY = f"{_OFFERS} AND g.status <> 'DRAFT'"


async def stock(models: ReadModels, product_id: UUID) -> QueryResult[Stock | None]:
    """The stock of a physical game."""
    return await models.first(Stock, _STOCK, id=product_id)


async def stocks(
    models: ReadModels,
    *,
    seller_id: UUID | None = None,
    at_most: int | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[ListedStock]]:
    """The stock of physical games, of one seller or of all, the newest game first. With `at_most`,
    only games with at most so many units available, without retired ones. Raises BadCursor."""
    conditions: list[str] = []
    values: dict[str, object] = {}
    if seller_id is not None:
        conditions, values = (
            [*conditions, "seller_id = %(seller)s"],
            {**values, "seller": seller_id},
        )
    if at_most is not None:
        low = "status <> 'RETIRED' AND available <= %(at_most)s"
        conditions, values = [*conditions, low], {**values, "at_most": at_most}
    return await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)


async def stock_as_of(log: Log, product_id: UUID, moment: int | datetime) -> Stock | None:
    """The stock as it was at a log position or a time."""
    row = await row_as_of(log, StockItems(), item_key(stock_id(product_id)), moment)
    return None if row is None else msgspec.convert(row, Stock, from_attributes=True)


async def availability(
    models: ReadModels, product_id: UUID, now: datetime
) -> QueryResult[Availability | None]:
    """A game's availability; None for a draft. A retired physical game has no unit available."""
    return await models.first(Availability, _AVAILABILITY, ids=[product_id], now=now)


async def offers(
    models: ReadModels, product_ids: Sequence[UUID], now: datetime
) -> QueryResult[dict[UUID, Offer]]:
    """The availability, images and prices of these games, by id."""
    found = await models.rows(Offer, _OFFERS, ids=list(product_ids), now=now)
    return found.map(lambda rows: {row.product_id: row for row in rows})


async def seen_offers(
    models: ReadModels,
    product_ids: Sequence[UUID],
    now: datetime,
    *,
    viewer_id: UUID | None,
    sees_all: bool,
) -> QueryResult[list[Offer]]:
    """As `offers`, in no order, without the games that the viewer may not see."""
    return await models.rows(
        Offer, _SEEN_OFFERS, ids=list(product_ids), now=now, viewer=viewer_id, all=sees_all
    )
