from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from domain.events import Event
from domain.fulfilment import (
    DeliveryCorrected,
    ShipmentConfirmed,
    ShipmentCreated,
    ShipmentLine,
    ShipmentStatusUpdated,
)
from domain.orders import OrderCompleted, OrderConfirmed, OrderStatusChanged
from projections.fields import Happened
from projections.models.orders import Orders
from projections.models.shipments import Shipment, ShipmentLineRow, Shipments
from tests.support.events.history import (
    GAME,
    ORDER,
    PAYMENT,
    SELLER,
    START,
    History,
    at,
    order_created,
    some_id,
)

SHIPMENT, LINE = some_id("shipment"), some_id("line")
CREATED = ShipmentCreated(
    order_id=ORDER, seller_id=SELLER, lines=(ShipmentLine(LINE, GAME, "Ca\0tan", 2),)
)
CONFIRMED = ShipmentConfirmed()


def moved(status: str, at: datetime = START, **said: str) -> ShipmentStatusUpdated:
    return ShipmentStatusUpdated(status=status, at=at, **said)  # type: ignore[arg-type]


SHIPPED = moved("SHIPPED", START + timedelta(hours=1), carrier="Correios", tracking_number="BR1")


def shipment_after(*events: Event) -> Shipment:
    row = History().happened(SHIPMENT, *events).row(Shipments(), SHIPMENT)
    assert isinstance(row, Shipment)
    return row


def test_a_new_shipment_is_provisional_until_it_is_confirmed() -> None:
    new, confirmed = shipment_after(CREATED), shipment_after(CREATED, CONFIRMED)
    assert (new.order_id, new.seller_id, new.lines) == (
        ORDER,
        SELLER,
        [ShipmentLineRow(LINE, GAME, "Catan", 2)],
    )
    assert (new.provisional, new.status, new.version) == (True, "PENDING", 1)
    assert (confirmed.provisional, confirmed.status, confirmed.version) == (False, "PENDING", 2)


def test_a_shipment_says_when_it_came_how_far_by_who_reported_it() -> None:
    from_brazil = datetime(2026, 1, 3, 9, tzinfo=timezone(timedelta(hours=-3)))
    row = shipment_after(
        CREATED, CONFIRMED, moved("PROCESSING"), SHIPPED, moved("DELIVERED", from_brazil)
    )
    assert (row.status, row.carrier, row.tracking_number) == ("DELIVERED", "Correios", "BR1")
    assert (row.processing_at, row.shipped_at) == (START, START + timedelta(hours=1))
    assert row.delivered_at == datetime(2026, 1, 3, 12, tzinfo=UTC)
    assert (row.created_at, row.updated_at, row.cancelled_at) == (at(1), at(5), None)
    assert row.history[-1] == Happened("shipment.status_updated.v1", at(5), 5, status="DELIVERED")


def test_a_cancelled_shipment_says_when() -> None:
    row = shipment_after(CREATED, moved("CANCELLED"))
    assert (row.status, row.cancelled_at, row.provisional) == ("CANCELLED", START, True)


def test_an_order_that_was_shipped_stays_delivered_when_it_is_complete() -> None:
    line = msgspec.structs.replace(order_created().lines[0], kind="PHYSICAL", shipment_id=SHIPMENT)
    delivered = OrderStatusChanged(status="DELIVERED", shipment_id=SHIPMENT)
    paid = OrderConfirmed(payment_id=PAYMENT)
    history = History().happened(
        ORDER, order_created(lines=(line,)), paid, delivered, OrderCompleted()
    )
    order = history.row(Orders(), ORDER)
    assert (order.status, order.timeline[-1].name) == ("DELIVERED", "order.completed.v1")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), datetime(1, 1, 3, tzinfo=UTC)),
        (
            datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=12))),
            datetime(9999, 12, 29, tzinfo=UTC),
        ),
        (
            datetime(2026, 3, 1, 1, tzinfo=timezone(timedelta(hours=3))),
            datetime(2026, 2, 28, 22, tzinfo=UTC),
        ),
    ],
)
def test_a_moment_that_no_row_can_hold_is_the_nearest_one_that_can_and_may_be_corrected(
    told: datetime, kept: datetime
) -> None:
    delivered = ShipmentStatusUpdated(status="DELIVERED", at=told)
    history = History().happened(SHIPMENT, CREATED, delivered)
    row = history.row(Shipments(), SHIPMENT)
    assert (row.status, row.delivered_at) == ("DELIVERED", kept)  # type: ignore[union-attr]

    history.happened(SHIPMENT, DeliveryCorrected(at=START, reason="the scanner's clock"))
    row = history.row(Shipments(), SHIPMENT)
    assert (row.status, row.delivered_at) == ("DELIVERED", START)  # type: ignore[union-attr]
    assert row.history[-1].reason == "the scanner's clock"  # type: ignore[union-attr]
