"""How a payment stands, and what happened to it."""

from datetime import datetime
from uuid import UUID

import msgspec

from eventstore.log import Log
from projections.as_of import row_as_of
from projections.fields import Happened
from projections.models.payments import Payments, RefundOfPayment
from queries.paging import Listing, Page, columns_of, newest_first, page
from queries.read_models import Answer, ReadModels


class Payment(msgspec.Struct, frozen=True):
    """A payment. `method` is card, wallet or free; `code` and `detail` tell the last failure; `closed`: no further
    try is allowed; `history` tells its events. `refund_status` is PENDING while a refund is under way, else how the
    last one ended; `refunded_cents` has gone back."""

    payment_id: UUID
    order_id: UUID | None
    transaction_id: UUID | None
    buyer_id: UUID
    amount_cents: int
    refunded_cents: int
    refund_status: str | None
    refunds: list[RefundOfPayment]
    currency: str
    status: str
    method: str | None
    provider: str | None
    provider_ref: str | None
    client_secret: str | None
    redirect_url: str | None
    attempt: int
    code: str | None
    detail: str | None
    closed: bool
    expires_at: datetime
    history: list[Happened]
    version: int
    created_at: datetime
    updated_at: datetime


_COLUMNS = columns_of(Payment, "p")


async def payment(models: ReadModels, payment_id: UUID) -> Answer[Payment | None]:
    """One payment."""
    query = f"SELECT {_COLUMNS} FROM {{payments}} p WHERE p.payment_id = %(id)s"
    return await models.first(Payment, query, id=payment_id)


_LISTING = Listing(Payment, _COLUMNS, "{payments} p")
_NEWEST = newest_first("p.created_position")


async def payments(
    models: ReadModels,
    *,
    status: str | None = None,
    refund_status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Answer[Page[Payment]]:
    """Everybody's payments, the newest first. Raises BadCursor."""
    wanted: dict[str, object | None] = {"status": status, "refund_status": refund_status}
    values = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"p.{name} = %({name})s" for name in values]
    return await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)


async def payment_as_of(log: Log, payment_id: UUID, moment: int | datetime) -> Payment | None:
    """The payment as it was at a log position or a time."""
    row = await row_as_of(log, Payments(), payment_id, moment)
    return None if row is None else msgspec.convert(row, Payment, from_attributes=True)
