"""Shipments step by step, and what an order's shipments amount to."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from spec import NOON, an_id, fold, given, when

from domain import fulfilment
from domain.errors import Conflict, Invalid
from domain.events import Event
from domain.fulfilment import (
    Shipment,
    ShipmentConfirmed,
    ShipmentCreated,
    ShipmentLine,
    ShipmentStatusUpdated,
    Status,
    evolve,
)

LINE = ShipmentLine(an_id("line"), an_id("game"), "Catan", 2)
CREATED = ShipmentCreated(order_id=an_id("order"), seller_id=an_id("seller"), lines=(LINE,))
CONFIRMED = ShipmentConfirmed()
PROCESSING = ShipmentStatusUpdated(status="PROCESSING", at=NOON)
SHIPPED = ShipmentStatusUpdated(status="SHIPPED", at=NOON, carrier="Correios", tracking_number="BR1")
DELIVERED = ShipmentStatusUpdated(status="DELIVERED", at=NOON)
CANCELLED = ShipmentStatusUpdated(status="CANCELLED", at=NOON)

PATH = (CREATED, CONFIRMED, PROCESSING, SHIPPED, DELIVERED)
"""All the way, in order."""


def process(shipment: Shipment) -> list[Event]:
    return fulfilment.process(shipment, NOON)


def ship(shipment: Shipment) -> list[Event]:
    return fulfilment.ship(shipment, "Correios", "BR1", NOON)


def deliver(shipment: Shipment) -> list[Event]:
    return fulfilment.deliver(shipment, NOON)


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
    decide = given(evolve, *PATH[:3]).when(lambda shipment: fulfilment.ship(shipment, carrier, number, NOON))
    decide.then_refused(Invalid, "invalid_tracking")


def test_the_carrier_and_its_number_are_remembered_when_it_is_delivered() -> None:
    delivered = fold(evolve, *PATH)
    assert (delivered.carrier, delivered.tracking_number, delivered.status) == ("Correios", "BR1", "DELIVERED")


@pytest.mark.parametrize("past", [PATH[:1], PATH[:2], PATH[:3]])
def test_what_has_not_gone_yet_is_cancelled_with_its_order(past: tuple[Event, ...]) -> None:
    given(evolve, *past).when(lambda shipment: fulfilment.cancel(shipment, NOON)).then(CANCELLED)


@pytest.mark.parametrize("past", [PATH[:4], PATH, (CREATED, CANCELLED)])
def test_what_has_gone_is_not_cancelled_nor_is_anything_twice(past: tuple[Event, ...]) -> None:
    given(evolve, *past).when(lambda s: fulfilment.cancel(s, NOON + timedelta(days=1))).then_nothing()


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
