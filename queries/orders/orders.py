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
from projections.projection import shown
from queries.engine.paging import ListQuery, Page, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels
from queries.money.payments import payment_as_of
from queries.money.receipts import receipts_as_of
from queries.orders.shipments import shipments_as_of


class Order(OrderRow, kw_only=True):
    """An order; `user_id` is the buyer. `timeline` lists its events and those of its payment,
    shipments and receipts, in log order. `shipments` and `receipts` are in the order of their
    sellers' lines; a seller has no receipt before one is requested. `refunded_cents` were refunded,
    also of a cancelled order, whose own events do not cover late money.
    """

    payment: Payment | None
    receipts: list[Receipt]
    shipments: list[Shipment]


_WHOLE = """
SELECT o.*, p AS payment,
    (SELECT coalesce(json_agg(r), '[]') FROM @receipts r WHERE r.order_id = o.order_id) AS receipts,
    (SELECT coalesce(json_agg(s), '[]') FROM @shipments s WHERE s.order_id = o.order_id)
    AS shipments
FROM @orders o LEFT JOIN @payments p ON p.payment_id = o.payment_id
"""
_ORDER = f"{_WHOLE} WHERE o.order_id = %(id)s"

_LISTING = ListQuery(Order, _WHOLE)
_NEWEST = newest_first("created_position")


async def order(models: ReadModels, order_id: UUID) -> QueryResult[Order | None]:
    found = await models.first(Order, _ORDER, id=order_id)
    return found.map(lambda row: None if row is None else _told_whole(row))


async def orders(
    models: ReadModels,
    *,
    user_id: UUID | None = None,
    status: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[Order]]:
    """Orders, of one buyer or of all, the newest first. Raises BadCursor."""
    wanted: dict[str, object | None] = {"user_id": user_id, "status": status}
    values = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"{name} = %({name})s" for name in values]
    found = await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)
    return found.map(
        lambda part: Page([_told_whole(each) for each in part.items], part.next_cursor)
    )


async def order_as_of(log: Log, order_id: UUID, moment: int | datetime) -> Order | None:
    """The order, its payment, its shipments and its receipts as they were at a log position or a
    time."""
    row = await shown_as_of(log, Orders(), order_id, moment)
    if row is None:
        return None
    found = Order(
        **msgspec.structs.asdict(row),
        payment=await payment_as_of(log, row.payment_id, moment),
        receipts=await receipts_as_of(
            log, order_id, [line.seller_id for line in row.lines], moment
        ),
        shipments=await shipments_as_of(log, row.shipment_ids, moment),
    )
    return _told_whole(found)


def _told_whole(order: Order) -> Order:
    sellers = [line.seller_id for line in order.lines]
    payment = None if order.payment is None else shown(order.payment)
    receipts = sorted(
        map(shown, order.receipts), key=lambda receipt: sellers.index(receipt.seller_id)
    )
    numbers = {shipment_id: number for number, shipment_id in enumerate(order.shipment_ids)}
    shipments = sorted(
        map(shown, order.shipments), key=lambda shipment: numbers[shipment.shipment_id]
    )
    happened = [*order.timeline, *(payment.history if payment else [])]
    happened += [each for receipt in receipts for each in receipt.history]
    happened += [each for shipment in shipments for each in shipment.history]
    timeline = sorted(happened, key=lambda each: each.position)
    refunded = payment if order.status == "CANCELLED" and payment is not None else order
    return msgspec.structs.replace(
        order,
        timeline=timeline,
        payment=payment,
        receipts=receipts,
        shipments=shipments,
        refunded_cents=refunded.refunded_cents,
    )
