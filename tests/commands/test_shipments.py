"""Commands on shipments; the order follows."""

import json
from datetime import timedelta

import pytest

from adapters.webhooks.signature import sign
from commands.caller import SYSTEM
from commands.ports.signatures import InvalidSignature
from domain.errors import Conflict, Forbidden, Invalid, NotFound, Stale
from domain.fulfilment import DeliveryCorrected, ShipmentStatusUpdated
from domain.notices import NoticeKept, Received
from domain.orders import OrderCompleted, OrderStatusChanged
from tests.support.commands import ADMIN, CARRIER_SECRET, Shop, Streams
from tests.support.given_when_then import NOON, an_id
from tests.support.past import ANA, ANA_ID, SELLER, SHIPMENT, account, line, order, shipment

PROCESSING = ShipmentStatusUpdated(status="PROCESSING", at=NOON)
SHIPPED = ShipmentStatusUpdated(status="SHIPPED", at=NOON, carrier="UPS", tracking_number="1Z 999")
DELIVERED = ShipmentStatusUpdated(status="DELIVERED", at=NOON)

PAID = order(line("PHYSICAL", quantity=2, shipment_id=SHIPMENT), paid=True)


def shipped() -> list[Streams]:
    return [PAID, shipment(), {SHIPMENT: [PROCESSING, SHIPPED]}]


def notice(**said: object) -> tuple[bytes, str]:
    """The carrier's notice, and its signature."""
    body = json.dumps(said).encode()
    return body, sign(body, CARRIER_SECRET, int(NOON.timestamp()))


async def test_its_seller_processes_and_ships_and_the_order_follows(shop: Shop) -> None:
    await (
        shop.given(PAID, shipment())
        .when(shop.shipments.process(SELLER, SHIPMENT))
        .then(PROCESSING, OrderStatusChanged(status="PROCESSING", shipment_id=SHIPMENT))
    )
    await shop.when(shop.shipments.ship(SELLER, SHIPMENT, " UPS ", "1Z 999")).then(
        SHIPPED, OrderStatusChanged(status="SHIPPED", shipment_id=SHIPMENT)
    )


async def test_before_the_order_is_paid_nothing_is_sent(shop: Shop) -> None:
    unpaid = order(line("PHYSICAL", quantity=2, shipment_id=SHIPMENT))
    waiting = shop.given(unpaid, shipment(confirmed=False)).when(
        shop.shipments.process(SELLER, SHIPMENT)
    )
    await waiting.then_refused(Conflict, "shipment_provisional")


async def test_others_move_no_shipment(shop: Shop) -> None:
    await (
        shop.given(PAID, shipment())
        .when(shop.shipments.process(ANA, SHIPMENT))
        .then_refused(Forbidden, "not_yours")
    )
    await shop.when(shop.shipments.process(SELLER, an_id("?"))).then_refused(
        NotFound, "shipment_not_found"
    )


async def test_who_saw_another_version_does_not_move_it(shop: Shop) -> None:
    stale = shop.given(PAID, shipment()).when(
        shop.shipments.process(SELLER, SHIPMENT, expected_version=1)
    )
    await stale.then_refused(Stale, "version_mismatch", version=2)


async def test_steps_come_in_order(shop: Shop) -> None:
    early = shop.given(PAID, shipment()).when(shop.shipments.ship(SELLER, SHIPMENT, "UPS", "1Z"))
    await early.then_refused(Conflict, "shipment_not_processing")
    again = shop.given({SHIPMENT: [PROCESSING]}).when(shop.shipments.process(SELLER, SHIPMENT))
    await again.then_refused(Conflict, "shipment_not_pending")
    blank = shop.when(shop.shipments.ship(SELLER, SHIPMENT, "UPS", " "))
    await blank.then_refused(Invalid, "invalid_tracking")


@pytest.mark.parametrize(
    "said", [{"shipment_id": str(SHIPMENT)}, {"tracking_number": "1z-999"}], ids=["id", "number"]
)
async def test_the_carriers_notice_delivers_it_once(shop: Shop, said: dict[str, object]) -> None:
    body, signature = notice(**said)
    told = shop.given(account(ANA_ID), *shipped()).when(
        shop.shipments.receive_notice(SYSTEM, SHIPMENT, body, signature)
    )
    await told.then(
        DELIVERED,
        OrderStatusChanged(status="DELIVERED", shipment_id=SHIPMENT),
        OrderCompleted(),
        NoticeKept(
            user_id=ANA_ID,
            sender="carrier",
            about="shipment",
            about_id=SHIPMENT,
            body_bytes=len(body),
            received=Received(body.decode(), signature),
        ),
    )
    await shop.when(shop.shipments.receive_notice(SYSTEM, SHIPMENT, *notice(**said))).then_nothing()


async def test_a_notice_that_the_carrier_did_not_sign_is_nobodys(shop: Shop) -> None:
    body, _ = notice(shipment_id=str(SHIPMENT))
    forged = sign(body, "another", int(NOON.timestamp()))
    told = shop.given(*shipped()).when(
        shop.shipments.receive_notice(SYSTEM, SHIPMENT, body, forged)
    )
    await told.then_raises(InvalidSignature)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({}, "parcel_not_named"),
        ({"shipment_id": 7}, "malformed_notice"),
        (
            {"shipment_id": str(SHIPMENT), "delivered_at": "2026-03-01T13:00:00Z"},
            "invalid_delivered_at",
        ),
        (
            {"shipment_id": str(SHIPMENT), "delivered_at": "2026-03-01T11:00:00Z"},
            "invalid_delivered_at",
        ),
    ],
    ids=["nameless", "malformed", "future", "before it was shipped"],
)
async def test_a_notice_names_its_parcel_and_a_possible_time(
    shop: Shop, said: dict[str, object], code: str
) -> None:
    told = shop.given(*shipped()).when(
        shop.shipments.receive_notice(SYSTEM, SHIPMENT, *notice(**said))
    )
    await told.then_refused(Invalid, code)


async def test_a_notice_of_another_parcel_delivers_nothing(shop: Shop) -> None:
    other = notice(tracking_number="1Z 000")
    told = shop.given(*shipped()).when(shop.shipments.receive_notice(SYSTEM, SHIPMENT, *other))
    await told.then_refused(Conflict, "wrong_shipment")
    early = shop.given({an_id("other"): shipment()[SHIPMENT]}).when(
        shop.shipments.receive_notice(
            SYSTEM, an_id("other"), *notice(shipment_id=str(an_id("other")))
        )
    )
    await early.then_refused(Conflict, "shipment_not_shipped")


async def test_an_operator_delivers_it_by_hand_and_corrects_the_time(shop: Shop) -> None:
    by_hand = shop.given(*shipped()).when(
        shop.shipments.deliver(ADMIN, SHIPMENT, None, "they rang")
    )
    await by_hand.then(
        ShipmentStatusUpdated(status="DELIVERED", at=NOON, reason="they rang"),
        OrderStatusChanged(status="DELIVERED", shipment_id=SHIPMENT),
        OrderCompleted(),
    )
    shop.clock.advance(timedelta(hours=2))
    later = NOON + timedelta(hours=1)
    await shop.when(shop.shipments.deliver(ADMIN, SHIPMENT, later, "a typo")).then(
        DeliveryCorrected(at=later, reason="a typo")
    )
    with pytest.raises(Forbidden, match="role_required"):
        await shop.shipments.deliver(SELLER, SHIPMENT, None, "they rang")
