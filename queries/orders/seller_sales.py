"""A seller's sales: the seller's own lines of paid orders, without the buyers."""

from datetime import date, datetime
from uuid import UUID

import msgspec

from queries.engine.paging import ListQuery, Page, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels


class SoldLine(msgspec.Struct, frozen=True):
    """A line of an order: what was paid for it, what of that was refunded, and what the platform
    keeps of the rest (`fee_cents`)."""

    line_id: UUID
    game_id: UUID
    kind: str
    title: str
    quantity: int
    unit_price_cents: int
    gross_cents: int
    refunded_cents: int
    fee_cents: int
    shipment_id: UUID | None = None


class SellerSale(msgspec.Struct, frozen=True):
    """A paid order with the seller's lines; `day` is the one (UTC) on which it was paid."""

    order_id: UUID
    status: str
    region: str
    currency: str
    day: date
    created_at: datetime
    lines: list[SoldLine]


_SALES = ListQuery(
    SellerSale,
    """
SELECT s.order_id, o.status, o.region, o.currency, paid.day, o.created_at,
    s.seller_id, s.created_position, (
        SELECT json_agg(line || figures)
        FROM ROWS FROM (jsonb_array_elements(o.lines), jsonb_array_elements(paid.lines))
            AS sold (line, figures)
        WHERE line ->> 'seller_id' = s.seller_id::text
    ) AS lines
FROM @seller_orders s
JOIN @orders o ON o.order_id = s.order_id
JOIN @sales paid ON paid.order_id = s.order_id AND paid.day IS NOT NULL
""",
)
"""Both models have the lines in the order of the event."""

_NEWEST = newest_first("created_position")


async def seller_sales(
    models: ReadModels, seller_id: UUID, *, limit: int = 50, cursor: str | None = None
) -> QueryResult[Page[SellerSale]]:
    """A seller's sales, the order that was placed last first. Raises BadCursor."""
    wanted = ["seller_id = %(seller)s"]
    values: dict[str, object] = {"seller": seller_id}
    return await page(models, _SALES, _NEWEST, wanted, values, limit=limit, cursor=cursor)
