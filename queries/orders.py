"""Orders with their payments, shipments and fiscal receipts."""

from datetime import datetime
from uuid import UUID

import msgspec

from eventstore.log import Log
from projections.as_of import row_as_of
from projections.fields import Happened
from projections.models.orders import OrderLineRow, Orders
from queries.paging import Listing, Page, columns_of, newest_first, page
from queries.payments import Payment, payment_as_of
from queries.read_models import Answer, ReadModels
from queries.receipts import Receipt, receipts_as_of
from queries.shipments import Shipment, shipments_as_of


class Order(msgspec.Struct, frozen=True):
    """An order; `user_id` is the buyer. `timeline` tells its events and those of its payment, its shipments and its
    receipts, in the order of the log. `shipments` and `receipts` are in the order of their sellers' lines; a seller has
    no receipt before the operator is to be told. `refunded_cents` has gone back, of a cancelled order too, whose own
    events do not tell of money that came late and was never its.
    """

    order_id: UUID
    user_id: UUID
    region: str
    currency: str
    total_cents: int
    refunded_cents: int
    status: str
    provisional: bool
    cancel_reason: str | None
    payment_id: UUID
    cart_id: UUID | None
    lines: list[OrderLineRow]
    expires_at: datetime
    timeline: list[Happened]
    version: int
    created_at: datetime
    updated_at: datetime
    payment: Payment | None = None
    receipts: list[Receipt] = []
    shipments: list[Shipment] = []

    @property
    def shipment_ids(self) -> list[UUID]:
        """Its shipments, one per seller who has something to send."""
        return list(dict.fromkeys(line.shipment_id for line in self.lines if line.shipment_id is not None))


_RECEIPTS = (
    f"(SELECT coalesce(json_agg(r), '[]') FROM (SELECT {columns_of(Receipt, 'r')}"
    " FROM {receipts} r WHERE r.order_id = o.order_id) AS r) AS receipts"
)
_SHIPMENTS = (
    f"(SELECT coalesce(json_agg(s), '[]') FROM (SELECT {columns_of(Shipment, 's')}"
    " FROM {shipments} s WHERE s.order_id = o.order_id) AS s) AS shipments"
)
_OWN = columns_of(Order, "o", without=("payment", "receipts", "shipments"))
_COLUMNS = f"{_OWN}, p AS payment, {_RECEIPTS}, {_SHIPMENTS}"
_SOURCE = "{orders} o LEFT JOIN {payments} p ON p.payment_id = o.payment_id"
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
    row = await row_as_of(log, Orders(), order_id, moment)
    if row is None:
        return None
    found = msgspec.convert(row, Order, from_attributes=True)
    payment = await payment_as_of(log, found.payment_id, moment)
    receipts = await receipts_as_of(log, order_id, [line.seller_id for line in found.lines], moment)
    shipments = await shipments_as_of(log, found.shipment_ids, moment)
    return _told_whole(msgspec.structs.replace(found, payment=payment, receipts=receipts, shipments=shipments))


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
