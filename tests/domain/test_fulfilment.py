"""The steps of a shipment, and the state of an order by its shipments."""

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from domain import fulfilment
from domain.errors import Conflict, Invalid
from domain.events import Event
from domain.fulfilment import (
    CLOCK_SKEW,
    DeliveryCorrected,
    Shipment,
    ShipmentConfirmed,
    ShipmentCreated,
    ShipmentLine,
    ShipmentStatusUpdated,
    Status,
    evolve,
)
from tests.support.given_when_then import NOON, an_id, fold, given, when

LINE = ShipmentLine(an_id("line"), an_id("game"), "Catan", 2)
CREATED = ShipmentCreated(order_id=an_id("order"), seller_id=an_id("seller"), lines=(LINE,))
CONFIRMED = ShipmentConfirmed()
PROCESSING = ShipmentStatusUpdated(status="PROCESSING", at=NOON)
SHIPPED = ShipmentStatusUpdated(
    status="SHIPPED", at=NOON, carrier="Correios", tracking_number="BR1"
)
DELIVERED = ShipmentStatusUpdated(status="DELIVERED", at=NOON)
CANCELLED = ShipmentStatusUpdated(status="CANCELLED", at=NOON)

PATH = (CREATED, CONFIRMED, PROCESSING, SHIPPED, DELIVERED)
"""All steps, in order."""


def process(shipment: Shipment) -> list[Event]:
    return fulfilment.process(shipment, NOON)


def ship(shipment: Shipment) -> list[Event]:
    return fulfilment.ship(shipment, "Correios", "BR1", NOON)


def deliver(shipment: Shipment) -> list[Event]:
    return fulfilment.deliver(shipment, NOON, NOON)


def test_a_shipment_goes_all_the_way() -> None:
    when(lambda: fulfilment.create(an_id("order"), an_id("seller"), [LINE])).then(CREATED)
    given(evolve, *PATH[:1]).when(fulfilment.confirm).then(CONFIRMED)
    given(evolve, *PATH[:2]).when(process).then(PROCESSING)
    given(evolve, *PATH[:3]).when(ship).then(SHIPPED)
    given(evolve, *PATH[:4]).when(deliver).then(DELIVERED)


@pytest.mark.parametrize("step", [process, ship, deliver])
def test_nothing_moves_before_the_order_is_paid(step: Callable[[Shipment], list[Event]]) -> None:
    given(evolve, CREATED).when(step).then_refused(Conflict, "shipment_provisional")


@pytest.mark.parametrize(
    ("step", "allowed", "code"),
    [
        (process, "PENDING", "shipment_not_pending"),
        (ship, "PROCESSING", "shipment_not_processing"),
        (deliver, "SHIPPED", "shipment_not_shipped"),
    ],
)
def test_no_step_is_left_out_or_taken_twice(
    step: Callable[[Shipment], list[Event]], allowed: Status, code: str
) -> None:
    for past in (PATH[:2], PATH[:3], PATH[:4], PATH, (CREATED, CONFIRMED, CANCELLED)):
        status = fold(evolve, *past).status
        if status != allowed and not (step is deliver and status == "DELIVERED"):
            given(evolve, *past).when(step).then_refused(Conflict, code)


def test_carriers_and_payments_may_repeat_themselves() -> None:
    given(evolve, *PATH).when(deliver).then_nothing()
    given(evolve, *PATH[:2]).when(fulfilment.confirm).then_nothing()


@pytest.mark.parametrize(("carrier", "number"), [("", "BR1"), ("Correios", " ")])
def test_what_is_shipped_can_be_followed(carrier: str, number: str) -> None:
    decide = given(evolve, *PATH[:3]).when(
        lambda shipment: fulfilment.ship(shipment, carrier, number, NOON)
    )
    decide.then_refused(Invalid, "invalid_tracking")


def test_the_carrier_and_its_number_are_remembered_when_it_is_delivered() -> None:
    delivered = fold(evolve, *PATH)
    assert (delivered.carrier, delivered.tracking_number, delivered.status) == (
        "Correios",
        "BR1",
        "DELIVERED",
    )


@pytest.mark.parametrize("past", [PATH[:1], PATH[:2], PATH[:3]])
def test_what_has_not_gone_yet_is_cancelled_with_its_order(past: tuple[Event, ...]) -> None:
    given(evolve, *past).when(lambda shipment: fulfilment.cancel(shipment, NOON)).then(CANCELLED)


@pytest.mark.parametrize("past", [PATH[:4], PATH, (CREATED, CANCELLED)])
def test_what_has_gone_is_not_cancelled_nor_is_anything_twice(past: tuple[Event, ...]) -> None:
    given(evolve, *past).when(
        lambda s: fulfilment.cancel(s, NOON + timedelta(days=1))
    ).then_nothing()


def test_a_cancelled_shipment_is_not_revived_by_a_late_payment() -> None:
    given(evolve, CREATED, CANCELLED).when(fulfilment.confirm).then_nothing()


@pytest.mark.parametrize(
    ("shipments", "order"),
    [
        ("", None),
        ("PENDING", None),
        ("PENDING PENDING", None),
        ("PROCESSING PENDING", "PROCESSING"),
        ("PROCESSING PROCESSING", "PROCESSING"),
        ("SHIPPED PENDING", "PROCESSING"),
        ("SHIPPED PROCESSING", "PROCESSING"),
        ("DELIVERED PENDING", "PROCESSING"),
        ("SHIPPED SHIPPED", "SHIPPED"),
        ("DELIVERED SHIPPED", "SHIPPED"),
        ("DELIVERED DELIVERED", "DELIVERED"),
        ("CANCELLED", None),
        ("CANCELLED CANCELLED", None),
        ("CANCELLED PENDING", None),
        ("CANCELLED PROCESSING", "PROCESSING"),
        ("CANCELLED DELIVERED", "DELIVERED"),
    ],
)
def test_an_order_is_as_far_as_its_shipments(shipments: str, order: str | None) -> None:
    statuses: list[Status] = shipments.split()  # type: ignore[assignment]
    assert fulfilment.order_status(statuses) == order
    assert fulfilment.order_status(statuses[::-1]) == order


# -- when it was delivered -------------------------------------------------------------------------

SECOND = timedelta(seconds=1)
LATER = NOON + timedelta(hours=1)
BY_HAND = ShipmentStatusUpdated(status="DELIVERED", at=LATER, reason="seen")


def at(moment: datetime | None, now: datetime = LATER) -> Callable[[Shipment], list[Event]]:
    return lambda shipment: fulfilment.deliver(shipment, moment, now)


def by_hand(moment: datetime | None) -> Callable[[Shipment], list[Event]]:
    return lambda shipment: fulfilment.deliver_by_hand(shipment, moment, LATER, "seen")


def test_it_is_delivered_after_it_was_shipped_and_not_in_the_future_beyond_clock_skew() -> None:
    shipped = given(evolve, *PATH[:4])
    earliest, latest = NOON - CLOCK_SKEW, LATER + CLOCK_SKEW

    shipped.when(at(None)).then(ShipmentStatusUpdated(status="DELIVERED", at=LATER))
    shipped.when(at(earliest)).then(ShipmentStatusUpdated(status="DELIVERED", at=earliest))
    shipped.when(at(latest)).then(ShipmentStatusUpdated(status="DELIVERED", at=LATER))
    for never in (
        earliest - SECOND,
        latest + SECOND,
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    ):
        shipped.when(at(never)).then_refused(Invalid, "invalid_delivered_at")


def test_an_operator_delivers_by_hand_and_corrects_what_was_reported() -> None:
    poisoned = ShipmentStatusUpdated(
        status="DELIVERED", at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    )

    given(evolve, *PATH[:4]).when(by_hand(None)).then(BY_HAND)
    given(evolve, *PATH[:3]).when(by_hand(None)).then_refused(Conflict, "shipment_not_shipped")
    given(evolve, *PATH).when(by_hand(None)).then_nothing()
    given(evolve, *PATH).when(by_hand(NOON)).then_nothing()
    given(evolve, *PATH[:4], poisoned).when(by_hand(NOON)).then(
        DeliveryCorrected(at=NOON, reason="seen")
    )
    given(evolve, *PATH).when(by_hand(NOON - CLOCK_SKEW - SECOND)).then_refused(
        Invalid, "invalid_delivered_at"
    )
    mended = fold(evolve, *PATH[:4], poisoned, DeliveryCorrected(at=NOON, reason="seen"))
    assert (mended.status, mended.delivered_at) == ("DELIVERED", NOON)
