"""Stock, for those whose it is; and whether there is any, for those who would buy."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from domain.ids import stock_id
from eventstore.log import Log
from projections.as_of import row_as_of
from projections.models.games import PriceRow
from projections.models.stock import Stock as StockItems
from projections.models.stock import item_key
from queries.paging import Listing, Page, newest_first, page
from queries.read_models import Answer, ReadModels


class Stock(msgspec.Struct, frozen=True):
    """The stock of a physical game. `version` is the stream's: 0 of a game that is not on the books
    yet."""

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


class Offer(msgspec.Struct, frozen=True):
    """What a list of games shows of one beside what it is found by: `available` as in
    `Availability`; None of a draft, too."""

    product_id: UUID
    available: int | None
    image_ids: list[UUID]
    prices: list[PriceRow]


class Availability(msgspec.Struct, frozen=True):
    """How many of a game can be had right now; None of a digital one, of which there is no end."""

    product_id: UUID
    available: int | None
    on_sale: bool

    @property
    def in_stock(self) -> bool:
        """Whether it can be had at all."""
        return self.on_sale and (self.available is None or self.available > 0)


_ALL_STOCK = """
SELECT
    g.game_id AS product_id, g.seller_id, g.sku,
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

_LISTING = Listing(Stock, _ALL_STOCK)
_NEWEST = newest_first("created_position")

# A soft hold past its time is free to be reserved, though nobody may have said so yet.
_OFFERS = """
SELECT
    g.game_id AS product_id, g.image_ids, g.prices, g.status = 'ACTIVE' AS on_sale,
    CASE
        WHEN g.kind = 'DIGITAL' OR g.status = 'DRAFT' THEN NULL
        WHEN g.status <> 'ACTIVE' THEN 0
        ELSE coalesce(s.available + (
            SELECT coalesce(sum(h.reserved), 0) FROM @stock h
            WHERE h.stock_id = s.stock_id AND h.reserved > 0 AND h.expires_at <= %(now)s
        ), 0)::bigint
    END AS available
FROM @games g LEFT JOIN @stock s ON s.product_id = g.game_id
WHERE g.game_id = ANY (%(ids)s)
"""
_AVAILABILITY = f"{_OFFERS} AND g.status <> 'DRAFT'"


async def stock(models: ReadModels, product_id: UUID) -> Answer[Stock | None]:
    """What is on the books about a physical game."""
    return await models.first(Stock, _STOCK, id=product_id)


async def stocks(
    models: ReadModels,
    *,
    seller_id: UUID | None = None,
    at_most: int | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Answer[Page[Stock]]:
    """The stock of every physical game, a seller's or everybody's, the newest game first; of
    retired ones too, unless only what has `at_most` so many available is wanted. Raises
    BadCursor."""
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
) -> Answer[Availability | None]:
    """How many of a game can be had; a retired one cannot, and of a draft nothing is told."""
    return await models.first(Availability, _AVAILABILITY, ids=[product_id], now=now)


async def offers(
    models: ReadModels, product_ids: Sequence[UUID], now: datetime
) -> Answer[dict[UUID, Offer]]:
    """How many of each of these games can be had, its images, and its prices."""
    found = await models.rows(Offer, _OFFERS, ids=list(product_ids), now=now)
    return found.map(lambda rows: {row.product_id: row for row in rows})
