"""Shipments with their buyers."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec

from eventstore.log import Log
from projections.as_of import row_as_of, shown_as_of
from projections.models.orders import Orders
from projections.models.shipments import Shipment, Shipments
from queries.engine.paging import ListQuery, Page, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels


class ShipmentOfBuyer(Shipment, kw_only=True):
    buyer_id: UUID


_LISTING = ListQuery(Shipment, "SELECT * FROM @shipments")
_NEWEST = newest_first("created_position")

_SHIPMENT = """
SELECT s.*, o.user_id AS buyer_id
FROM @shipments s JOIN @orders o ON o.order_id = s.order_id
WHERE s.shipment_id = %(id)s
"""


async def shipment(models: ReadModels, shipment_id: UUID) -> QueryResult[ShipmentOfBuyer | None]:
    return await models.first(ShipmentOfBuyer, _SHIPMENT, id=shipment_id)


async def shipments(
    models: ReadModels,
    *,
    seller_id: UUID | None = None,
    status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[Shipment]]:
    """All shipments, or those that a seller may begin to send, the newest first. Raises
    BadCursor."""
    wanted: dict[str, object | None] = {"seller_id": seller_id, "status": status}
    values = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"{name} = %({name})s" for name in values]
    if seller_id is not None:
        conditions.append("NOT provisional")
    return await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)


async def shipment_as_of(
    log: Log, shipment_id: UUID, moment: int | datetime
) -> ShipmentOfBuyer | None:
    """The shipment as it was at a log position or a time."""
    row = await shown_as_of(log, Shipments(), shipment_id, moment)
    order = None if row is None else await row_as_of(log, Orders(), row.order_id, moment)
    if row is None or order is None:
        return None
    return ShipmentOfBuyer(**msgspec.structs.asdict(row), buyer_id=order.user_id)


async def shipments_as_of(
    log: Log, shipment_ids: Iterable[UUID], moment: int | datetime
) -> list[Shipment]:
    """Shipments as they were at a log position or a time."""
    rows = [
        await shown_as_of(log, Shipments(), shipment_id, moment) for shipment_id in shipment_ids
    ]
    return [row for row in rows if row is not None]
