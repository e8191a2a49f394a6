"""Which orders have lines of which seller."""

from uuid import UUID

from domain.orders import OrderLine
from projections.models.seller_orders import SellerOrder, SellerOrders
from tests.support.events.history import GAME, ORDER, SELLER, History, order_created, some_id

OTHER = some_id("other seller")


def line(name: str, seller: UUID) -> OrderLine:
    return OrderLine(some_id(name), GAME, seller, "DIGITAL", "Chess", 1, 500, 1000)


def test_an_order_is_listed_once_for_each_of_its_sellers() -> None:
    lines = (line("a", SELLER), line("b", OTHER), line("c", SELLER))
    history = History().happened(ORDER, order_created(lines=lines))

    rows = SellerOrders().fold(history.events).all()

    assert sorted(rows, key=lambda row: row.seller_id) == sorted(
        [SellerOrder(ORDER, SELLER, 1), SellerOrder(ORDER, OTHER, 1)],
        key=lambda row: row.seller_id,
    )
