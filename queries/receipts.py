"""The fiscal receipts of an order."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec

from eventstore.log import Log
from projections.as_of import row_as_of
from projections.fields import Happened
from projections.models.receipts import Receipts, keys_of_order


class Receipt(msgspec.Struct, frozen=True):
    """What a seller gave, or is going to give, for an order. It is issued once `status` is CREATED; `url` is where the
    operator shows it, if it does; `history` tells its events."""

    order_id: UUID
    seller_id: UUID
    number: int
    year: int
    amount_cents: int
    currency: str
    status: str
    url: str | None
    issued_at: datetime | None
    history: list[Happened]


async def receipts_as_of(log: Log, order_id: UUID, seller_ids: Iterable[UUID], moment: int | datetime) -> list[Receipt]:
    """The receipts of an order's sellers as they were at a log position or a time."""
    rows = [await row_as_of(log, Receipts(), key, moment) for key in keys_of_order(order_id, seller_ids)]
    return [msgspec.convert(row, Receipt, from_attributes=True) for row in rows if row is not None]
