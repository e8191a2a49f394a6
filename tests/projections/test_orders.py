from domain.events import Event
from domain.orders import (
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderRefunded,
    OrderStatusChanged,
)
from projections.fields import Happened
from projections.models.orders import OrderRow, Orders
from tests.support.events.history import (
    BUYER,
    DUE,
    GAME,
    ORDER,
    PAYMENT,
    History,
    at,
    order_created,
    some_id,
)


def order_after(*events: Event) -> OrderRow:
    row = History().happened(ORDER, *events).row(Orders(), ORDER)
    assert isinstance(row, OrderRow)
    return row


def refund(amount_cents: int, *, full: bool) -> OrderRefunded:
    return OrderRefunded(payment_id=PAYMENT, amount_cents=amount_cents, currency="USD", full=full)


def test_a_new_order_awaits_payment_by_its_deadline() -> None:
    order = order_after(order_created())
    assert (order.status, order.provisional, order.expires_at) == ("PENDING_PAYMENT", True, DUE)
    assert (order.user_id, order.payment_id, order.total_cents, order.refunded_cents) == (
        BUYER,
        PAYMENT,
        1499,
        0,
    )
    [line] = order.lines
    assert (line.game_id, line.title, line.quantity, line.unit_price_cents) == (
        GAME,
        "Hollow Knight",
        1,
        1499,
    )


def test_a_paid_digital_order_is_complete_and_its_timeline_says_when() -> None:
    order = order_after(order_created(), OrderConfirmed(payment_id=PAYMENT), OrderCompleted())
    assert (order.status, order.provisional, order.version, order.updated_at) == (
        "COMPLETED",
        False,
        3,
        at(3),
    )
    assert order.timeline == [
        Happened("order.created.v1", at(1), 1, status="PENDING_PAYMENT", amount_cents=1499),
        Happened("order.confirmed.v1", at(2), 2, status="CONFIRMED"),
        Happened("order.completed.v1", at(3), 3, status="COMPLETED"),
    ]


def test_an_order_follows_its_shipments() -> None:
    shipped = OrderStatusChanged(status="SHIPPED", shipment_id=some_id("shipment"))
    assert (
        order_after(order_created(), OrderConfirmed(payment_id=PAYMENT), shipped).status
        == "SHIPPED"
    )


def test_after_a_refund_of_a_part_the_status_tells_of_the_shipments_again() -> None:
    paid = (order_created(), OrderConfirmed(payment_id=PAYMENT), refund(500, full=False))
    delivered = OrderStatusChanged(status="DELIVERED", shipment_id=some_id("shipment"))
    order = order_after(*paid, delivered)
    assert (order_after(*paid).status, order.status, order.refunded_cents) == (
        "PARTIALLY_REFUNDED",
        "DELIVERED",
        500,
    )


def test_a_cancelled_order_says_why() -> None:
    order = order_after(order_created(), OrderCancelled(reason="expired"))
    assert (order.status, order.cancel_reason, order.timeline[-1].reason) == (
        "CANCELLED",
        "expired",
        "expired",
    )


def test_refunds_add_up() -> None:
    paid = (order_created(), OrderConfirmed(payment_id=PAYMENT), OrderCompleted())
    part = order_after(*paid, refund(500, full=False))
    whole = order_after(*paid, refund(500, full=False), refund(999, full=True))
    assert (part.status, part.refunded_cents) == ("PARTIALLY_REFUNDED", 500)
    assert (whole.status, whole.refunded_cents) == ("REFUNDED", 1499)


def test_no_address_is_in_the_read_model() -> None:
    assert "Rua" not in str(order_after(order_created(shipping_address={"line1": "Rua Augusta 1"})))
