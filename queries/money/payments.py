"""Payments with their history."""

from datetime import datetime
from uuid import UUID

from eventstore.log import Log
from projections.as_of import shown_as_of
from projections.models.payments import Payment, Payments
from queries.engine.paging import ListQuery, Page, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels

_LISTING = ListQuery(Payment, "SELECT * FROM @payments")
_NEWEST = newest_first("created_position")

_PAYMENT = "SELECT * FROM @payments WHERE payment_id = %(id)s"


async def payment(models: ReadModels, payment_id: UUID) -> QueryResult[Payment | None]:
    return await models.first(Payment, _PAYMENT, id=payment_id)


async def payments(
    models: ReadModels,
    *,
    status: str | None = None,
    refund_status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[Payment]]:
    """All payments, the newest first. Raises BadCursor."""
    wanted: dict[str, object | None] = {"status": status, "refund_status": refund_status}
    values = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"{name} = %({name})s" for name in values]
    return await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)


async def payment_as_of(log: Log, payment_id: UUID, moment: int | datetime) -> Payment | None:
    """The payment as it was at a log position or a time."""
    return await shown_as_of(log, Payments(), payment_id, moment)
