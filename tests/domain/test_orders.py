from datetime import datetime, timedelta
from functools import partial

import msgspec
import pytest

from domain import orders
from domain.errors import Conflict, Invalid
from domain.events import Event
from domain.orders import (
    FulfilmentStatus,
    Order,
    OrderCancelled,
    OrderCompleted,
    OrderConfirmed,
    OrderCreated,
    OrderLine,
    OrderRefunded,
    OrderRefundReversed,
    OrderStatusChanged,
    evolve,
)
from tests.support.given_when_then import NOON, an_id, fold, given, when

BUYER, SELLER, PAYMENT = an_id("buyer"), an_id("seller"), an_id("payment")
DEADLINE = NOON + timedelta(minutes=30)
IN_TIME, A_MOMENT = NOON + timedelta(minutes=1), timedelta(microseconds=1)
ADDRESS = {
    "name": "Ana",
    "line1": "Rua A, 1",
    "city": "Recife",
    "postal_code": "50000-000",
    "country": "BR",
}
CHESS = OrderLine(
    line_id=an_id("line 1"),
    game_id=an_id("chess"),
    seller_id=SELLER,
    kind="DIGITAL",
    title="Chess",
    quantity=1,
    unit_price_cents=1999,
    fee_bps=1000,
)
BOARD = msgspec.structs.replace(
    CHESS,
    line_id=an_id("line 2"),
    game_id=an_id("board"),
    kind="PHYSICAL",
    quantity=3,
    unit_price_cents=5000,
)


def created(
    *lines: OrderLine, total_cents: int = 1999, address: dict[str, str] | None = None
) -> OrderCreated:
    return OrderCreated(
        buyer_id=BUYER,
        region="BR",
        currency="BRL",
        total_cents=total_cents,
        provisional=True,
        payment_id=PAYMENT,
        expires_at=DEADLINE,
        lines=lines or (CHESS,),
        shipping_address=address,
    )


def place(
    *lines: OrderLine,
    region: str = "BR",
    currency: str = "BRL",
    address: dict[str, str] | None = None,
) -> list[Event]:
    return orders.place(
        buyer_id=BUYER,
        region=region,
        currency=currency,
        lines=lines,
        payment_id=PAYMENT,
        expires_at=DEADLINE,
        shipping_address=address,
    )


def refunded(amount_cents: int, *, full: bool) -> OrderRefunded:
    return OrderRefunded(payment_id=PAYMENT, amount_cents=amount_cents, currency="BRL", full=full)


DIGITAL = created()
MIXED = created(CHESS, BOARD, total_cents=16999, address=ADDRESS)
CONFIRMED, COMPLETED = OrderConfirmed(payment_id=PAYMENT), OrderCompleted()
CANCELLED, EXPIRED = OrderCancelled(reason="payment_failed"), OrderCancelled(reason="expired")


def test_an_order_is_placed_provisionally_and_awaits_its_payment() -> None:
    when(lambda: place(CHESS)).then(DIGITAL)
    order = fold(evolve, DIGITAL)
    assert (order.status, order.provisional, order.payment_id) == ("PENDING_PAYMENT", True, PAYMENT)


def test_the_total_is_the_sum_of_the_lines() -> None:
    when(lambda: place(CHESS, BOARD, address=ADDRESS)).then(MIXED)


def test_a_free_order_has_a_total_of_nothing() -> None:
    free = msgspec.structs.replace(CHESS, unit_price_cents=0)
    when(lambda: place(free)).then(created(free, total_cents=0))


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ((), "order_empty"),
        ((msgspec.structs.replace(CHESS, quantity=2),), "invalid_quantity"),
        ((msgspec.structs.replace(BOARD, quantity=0),), "invalid_quantity"),
        ((CHESS, msgspec.structs.replace(CHESS, line_id=an_id("line 3"))), "invalid_quantity"),
        ((msgspec.structs.replace(CHESS, unit_price_cents=-1),), "invalid_amount"),
    ],
)
def test_lines_that_cannot_be_are_refused(lines: tuple[OrderLine, ...], code: str) -> None:
    when(lambda: place(*lines, address=ADDRESS)).then_refused(Invalid, code)


def test_a_physical_game_needs_an_address() -> None:
    when(lambda: place(BOARD)).then_refused(Invalid, "shipping_address_required")


def test_an_order_is_in_a_currency() -> None:
    when(lambda: place(CHESS, currency="brl")).then_refused(Invalid, "invalid_currency")


def test_who_registered_with_a_region_that_is_none_any_more_can_buy() -> None:
    assert place(CHESS, region="UK")


def test_payment_completes_a_digital_order_at_once() -> None:
    given(evolve, DIGITAL).when(lambda o: orders.confirm(o, IN_TIME)).then(CONFIRMED, COMPLETED)
    order = fold(evolve, DIGITAL, CONFIRMED, COMPLETED)
    assert (order.status, order.provisional) == ("COMPLETED", False)


def test_payment_only_confirms_an_order_with_something_to_ship() -> None:
    given(evolve, MIXED).when(lambda o: orders.confirm(o, IN_TIME)).then(CONFIRMED)
    assert fold(evolve, MIXED, CONFIRMED).status == "CONFIRMED"


@pytest.mark.parametrize(
    "history",
    [
        (DIGITAL, CONFIRMED, COMPLETED),
        (MIXED, CONFIRMED),
        (DIGITAL, CONFIRMED, COMPLETED, refunded(1999, full=True)),
    ],
)
def test_confirming_again_changes_nothing(history: tuple[Event, ...]) -> None:
    given(evolve, *history).when(lambda o: orders.confirm(o, DEADLINE)).then_nothing()


def test_a_cancelled_order_is_not_confirmed() -> None:
    given(evolve, DIGITAL, CANCELLED).when(lambda o: orders.confirm(o, IN_TIME)).then_refused(
        Conflict, "order_cancelled"
    )


def test_an_overdue_order_is_as_good_as_cancelled_though_nobody_fired_its_deadline() -> None:
    given(evolve, DIGITAL).when(lambda o: orders.confirm(o, DEADLINE)).then_refused(
        Conflict, "order_cancelled"
    )
    given(evolve, DIGITAL).when(lambda o: orders.confirm(o, DEADLINE - A_MOMENT)).then(
        CONFIRMED, COMPLETED
    )


def test_an_unpaid_order_is_cancelled_once() -> None:
    given(evolve, DIGITAL).when(lambda o: orders.cancel(o, "payment_failed")).then(CANCELLED)
    given(evolve, DIGITAL, CANCELLED).when(lambda o: orders.cancel(o, "expired")).then_nothing()
    assert fold(evolve, DIGITAL, CANCELLED).cancel_reason == "payment_failed"


def test_a_paid_order_is_not_cancelled() -> None:
    given(evolve, DIGITAL, CONFIRMED, COMPLETED).when(
        lambda o: orders.cancel(o, "cancelled_by_buyer")
    ).then_refused(Conflict, "order_not_cancellable")


def test_the_deadline_cancels_an_unpaid_order() -> None:
    given(evolve, DIGITAL).when(lambda o: orders.expire(o, DEADLINE)).then(EXPIRED)


@pytest.mark.parametrize(
    ("history", "now"),
    [
        ((DIGITAL,), DEADLINE - A_MOMENT),
        ((DIGITAL, CANCELLED), DEADLINE),
        ((DIGITAL, CONFIRMED, COMPLETED), DEADLINE),
        ((MIXED, CONFIRMED), DEADLINE),
    ],
    ids=["not due", "cancelled", "completed", "paid"],
)
def test_a_deadline_that_is_not_due_or_met_changes_nothing(
    history: tuple[Event, ...], now: datetime
) -> None:
    given(evolve, *history).when(lambda o: orders.expire(o, now)).then_nothing()


@pytest.mark.parametrize("status", ["PROCESSING", "SHIPPED", "DELIVERED"])
def test_an_order_follows_its_shipments(status: FulfilmentStatus) -> None:
    moved = OrderStatusChanged(status=status, shipment_id=an_id("shipment"))
    assert fold(evolve, MIXED, CONFIRMED, moved).status == status


@pytest.mark.parametrize(
    "begun", [(), ("PROCESSING",), ("PROCESSING", "SHIPPED")], ids=["paid", "begun", "sent"]
)
def test_an_order_follows_its_shipments_after_a_refund_of_a_part(
    begun: tuple[FulfilmentStatus, ...],
) -> None:
    shipment = an_id("shipment")
    moved = [OrderStatusChanged(status=status, shipment_id=shipment) for status in begun]
    delivered = OrderStatusChanged(status="DELIVERED", shipment_id=shipment)
    partly = given(evolve, MIXED, CONFIRMED, *moved, refunded(500, full=False))
    partly.when(lambda o: orders.advance_fulfilment(o, "DELIVERED", shipment)).then(
        delivered, COMPLETED
    )
    for status in begun:
        partly.when(
            partial(orders.advance_fulfilment, status=status, shipment_id=shipment)
        ).then_nothing()
    order = fold(evolve, MIXED, CONFIRMED, *moved, refunded(500, full=False), delivered, COMPLETED)
    assert (order.status, order.refunded_cents) == ("DELIVERED", 500)


@pytest.mark.parametrize("history", [(), (CANCELLED,), (CONFIRMED, refunded(16999, full=True))])
def test_an_order_unpaid_cancelled_or_refunded_follows_nothing(history: tuple[Event, ...]) -> None:
    given(evolve, MIXED, *history).when(
        lambda o: orders.advance_fulfilment(o, "SHIPPED", an_id("shipment"))
    ).then_nothing()


def test_refunds_add_up_to_a_full_one() -> None:
    given(evolve, DIGITAL, CONFIRMED, COMPLETED).when(lambda o: orders.record_refund(o, 999)).then(
        refunded(999, full=False)
    )
    partly = (DIGITAL, CONFIRMED, COMPLETED, refunded(999, full=False))
    assert fold(evolve, *partly).status == "PARTIALLY_REFUNDED"
    given(evolve, *partly).when(lambda o: orders.record_refund(o, 1000)).then(
        refunded(1000, full=True)
    )
    order = fold(evolve, *partly, refunded(1000, full=True))
    assert (order.status, order.refunded_cents) == ("REFUNDED", 1999)


@pytest.mark.parametrize("amount_cents", [1001, 5000])
def test_no_more_is_refunded_than_was_paid(amount_cents: int) -> None:
    given(evolve, DIGITAL, CONFIRMED, COMPLETED, refunded(999, full=False)).when(
        lambda o: orders.record_refund(o, amount_cents)
    ).then_refused(Conflict, "refund_exceeds_total")


@pytest.mark.parametrize("amount_cents", [0, -1])
def test_a_refund_is_of_something(amount_cents: int) -> None:
    given(evolve, DIGITAL, CONFIRMED, COMPLETED).when(
        lambda o: orders.record_refund(o, amount_cents)
    ).then_refused(Invalid, "invalid_amount")


def test_a_free_order_is_refunded_once_by_nothing() -> None:
    free = (created(total_cents=0), CONFIRMED, COMPLETED)
    given(evolve, *free).when(lambda o: orders.record_refund(o, 0)).then(refunded(0, full=True))
    given(evolve, *free, refunded(0, full=True)).when(
        lambda o: orders.record_refund(o, 0)
    ).then_refused(Conflict, "refund_exceeds_total")


def test_there_is_nothing_to_refund_of_an_unpaid_order() -> None:
    given(evolve, DIGITAL).when(lambda o: orders.record_refund(o, 1)).then_refused(
        Conflict, "order_not_paid"
    )


def test_a_cancelled_order_whose_late_money_went_back_stays_cancelled() -> None:
    given(evolve, DIGITAL, CANCELLED).when(lambda o: orders.record_refund(o, 1999)).then_nothing()


def test_an_order_is_digital_when_nothing_of_it_is_shipped() -> None:
    def order(*lines: OrderLine) -> Order:
        return fold(evolve, created(*lines, address=ADDRESS))

    assert order(CHESS).is_digital
    assert not order(CHESS, BOARD).is_digital


def test_money_that_came_in_again_is_owed_and_goes_back_once_more() -> None:
    paid = (DIGITAL, CONFIRMED, COMPLETED, refunded(1999, full=True))
    reversed_ = OrderRefundReversed(payment_id=PAYMENT, amount_cents=1999, currency="BRL")
    given(evolve, *paid).when(lambda o: orders.reverse_refund(o, 1999)).then(reversed_)
    order = fold(evolve, *paid, reversed_)
    assert (order.status, order.refunded_cents) == ("REFUNDED", 0)
    given(evolve, *paid, reversed_).when(lambda o: orders.record_refund(o, 1999)).then(
        refunded(1999, full=True)
    )
    given(evolve, DIGITAL, CANCELLED).when(lambda o: orders.reverse_refund(o, 1999)).then_nothing()
    given(evolve, *paid).when(lambda o: orders.reverse_refund(o, 2000)).then_nothing()


def test_a_line_or_a_total_beyond_the_largest_amount_of_the_currency_is_refused() -> None:
    def of(quantity: int, price: int) -> OrderLine:
        return msgspec.structs.replace(BOARD, quantity=quantity, unit_price_cents=price)

    orders.check_lines([of(10, 10_000_000)], "USD")
    for quantity, price in [(11, 10_000_000), (1, 100_000_001), (1_000_000, 100_000_000)]:
        with pytest.raises(Invalid, match="invalid_amount"):
            orders.check_lines([of(quantity, price)], "USD")


@pytest.mark.parametrize(
    ("history", "paid", "now", "code"),
    [
        ((DIGITAL, CANCELLED), False, NOON, "order_cancelled"),
        ((DIGITAL, CANCELLED), True, NOON, "order_cancelled"),
        ((DIGITAL, EXPIRED), False, NOON, "order_expired"),
        ((DIGITAL,), False, DEADLINE, "order_expired"),
        ((DIGITAL,), True, NOON, "order_paid"),
        ((DIGITAL,), True, DEADLINE, "order_paid"),
        ((DIGITAL, CONFIRMED, COMPLETED), True, NOON, "order_paid"),
        ((DIGITAL, CONFIRMED, COMPLETED, refunded(1999, full=True)), True, NOON, "order_paid"),
    ],
)
def test_what_is_over_or_paid_takes_no_payment(
    history: tuple[Event, ...], paid: bool, now: datetime, code: str
) -> None:
    order = fold(evolve, *history)
    with pytest.raises(Conflict, match=code):
        orders.must_be_payable(order, paid=paid, now=now)


def test_an_unpaid_order_in_time_takes_a_payment() -> None:
    orders.must_be_payable(fold(evolve, DIGITAL), paid=False, now=NOON)
