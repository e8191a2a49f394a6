"""The fiscal receipts of an order."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from eventstore.log import Log
from projections.as_of import shown_as_of
from projections.models.receipts import Receipt, Receipts, keys_of_order


async def receipts_as_of(
    log: Log, order_id: UUID, seller_ids: Iterable[UUID], moment: int | datetime
) -> list[Receipt]:
    """The receipts of an order as they were at a log position or a time."""
    rows = [
        await shown_as_of(log, Receipts(), key, moment)
        for key in keys_of_order(order_id, seller_ids)
    ]
    return [row for row in rows if row is not None]
