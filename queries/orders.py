"""Orders with their payments, shipments and fiscal receipts."""

from datetime import datetime
from uuid import UUID

import msgspec

from eventstore.log import Log
from projections.as_of import shown_as_of
from projections.models.orders import OrderRow, Orders
from projections.models.payments import Payment
from projections.models.receipts import Receipt
from projections.models.shipments import Shipment
from queries.paging import Listing, Page, columns_of, newest_first, page
from queries.payments import payment_as_of
from queries.read_models import Answer, ReadModels
from queries.receipts import receipts_as_of
from queries.shipments import shipments_as_of


class Order(OrderRow, kw_only=True):
    """An order; `user_id` is the buyer. `timeline` tells its events and those of its payment, its shipments and its
    receipts, in the order of the log. `shipments` and `receipts` are in the order of their sellers' lines; a seller has
    no receipt before the operator is to be told. `refunded_cents` has gone back, of a cancelled order too, whose own
    events do not tell of money that came late and was never its.
    """

    payment: Payment | None
    receipts: list[Receipt]
    shipments: list[Shipment]


_RECEIPTS = (
    f"(SELECT coalesce(json_agg(r), '[]') FROM (SELECT {columns_of(Receipt, 'r')}"
    " FROM {receipts} r WHERE r.order_id = o.order_id) AS r) AS receipts"
)
_SHIPMENTS = (
    f"(SELECT coalesce(json_agg(s), '[]') FROM (SELECT {columns_of(Shipment, 's')}"
    " FROM {shipments} s WHERE s.order_id = o.order_id) AS s) AS shipments"
)
_COLUMNS = f"{columns_of(OrderRow, 'o')}, p AS payment, {_RECEIPTS}, {_SHIPMENTS}"
_SOURCE = (
    f"{{orders}} o LEFT JOIN (SELECT {columns_of(Payment, 'p')} FROM {{payments}} p) AS p"
    " ON p.payment_id = o.payment_id"
)
_LISTING = Listing(Order, _COLUMNS, _SOURCE)
_NEWEST = newest_first("o.created_position")


async def order(models: ReadModels, order_id: UUID) -> Answer[Order | None]:
    """One order."""
    query = f"SELECT {_COLUMNS} FROM {_SOURCE} WHERE o.order_id = %(id)s"
    found = await models.first(Order, query, id=order_id)
    return found.map(lambda row: None if row is None else _told_whole(row))


async def orders(
    models: ReadModels,
    *,
    user_id: UUID | None = None,
    status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Answer[Page[Order]]:
    """Orders, a buyer's or everybody's, the newest first. Raises BadCursor."""
    wanted: dict[str, object | None] = {"user_id": user_id, "status": status}
    values = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"o.{name} = %({name})s" for name in values]
    found = await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)
    return found.map(lambda part: Page([_told_whole(each) for each in part.items], part.next_cursor))


async def order_as_of(log: Log, order_id: UUID, moment: int | datetime) -> Order | None:
    """The order, its payment, its shipments and its receipts as they were at a log position or a time."""
    row = await shown_as_of(log, Orders(), order_id, moment)
    if row is None:
        return None
    found = Order(
        **msgspec.structs.asdict(row),
        payment=await payment_as_of(log, row.payment_id, moment),
        receipts=await receipts_as_of(log, order_id, [line.seller_id for line in row.lines], moment),
        shipments=await shipments_as_of(log, row.shipment_ids, moment),
    )
    return _told_whole(found)


def _told_whole(order: Order) -> Order:
    sellers = [line.seller_id for line in order.lines]
    receipts = sorted(order.receipts, key=lambda receipt: sellers.index(receipt.seller_id))
    numbers = {shipment_id: number for number, shipment_id in enumerate(order.shipment_ids)}
    shipments = sorted(order.shipments, key=lambda shipment: numbers[shipment.shipment_id])
    happened = [*order.timeline, *(order.payment.history if order.payment else [])]
    happened += [each for receipt in receipts for each in receipt.history]
    happened += [each for shipment in shipments for each in shipment.history]
    timeline = sorted(happened, key=lambda each: each.position)
    refunded = order.payment if order.status == "CANCELLED" and order.payment is not None else order
    return msgspec.structs.replace(
        order,
        timeline=timeline,
        receipts=receipts,
        shipments=shipments,
        refunded_cents=refunded.refunded_cents,
    )
