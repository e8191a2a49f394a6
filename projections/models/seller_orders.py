"""Which orders have lines of which seller, so that a seller's sales are found without looking at
everybody's orders."""

from uuid import UUID

from domain.orders import OrderCreated
from eventstore.log import Placed
from projections.projection import Projection, Row, Rows, on


class SellerOrder(Row):
    """An order with lines of a seller, paid or not; `created_position` is its place in the log."""

    KEY = ("order_id", "seller_id")
    INDEXES = ("seller_id, created_position",)

    order_id: UUID
    seller_id: UUID
    created_position: int


def _of_sellers(event: OrderCreated, env: Placed) -> list[tuple[UUID, UUID]]:
    sellers = dict.fromkeys(line.seller_id for line in event.lines)
    return [(env.stream_id, seller_id) for seller_id in sellers]


class SellerOrders(Projection[SellerOrder]):
    """Every order, once for each seller of its lines."""

    name, version, row = "seller_orders", 1, SellerOrder

    @on(OrderCreated, key=_of_sellers)
    def created(self, rows: Rows[SellerOrder], event: OrderCreated, env: Placed) -> None:
        for order_id, seller_id in _of_sellers(event, env):
            rows.put(SellerOrder(order_id, seller_id, env.position))
