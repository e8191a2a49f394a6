"""Fulfilment over HTTP: sellers ship paid orders, the carrier's signed notice reports the delivery,
and the order follows."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from adapters.webhooks.signature import sign
from commands.caller import Caller
from domain.notification_texts import render
from domain.payments import Method
from tests.support.shops.gateway import CARD, Person, Shop
from tests.support.shops.manual import ordered
from tests.support.shops.market import check_out, put_in
from tests.support.shops.money import account

HOME = {
    "name": "Ann",
    "line1": "Rua Augusta 1",
    "city": "São Paulo",
    "postal_code": "01305",
    "country": "BR",
}
PARCEL = {"tracking_number": "BR1", "carrier": "Correios"}
PAID = Method("card", CARD)


@dataclass
class Parcels:
    """An order with several sellers, and each seller's shipment."""

    shop: Shop
    buyer: Person
    order_id: UUID

    async def order(self, reader: Person | None = None) -> dict[str, Any]:
        """The order's current state."""
        answer = await (reader or self.buyer).get(
            f"/api/v1/orders/{self.order_id}", headers=await self.shop.reached()
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def becomes(self, status: str) -> dict[str, Any]:
        """The order once it has this status."""
        return await self.shop.eventually(self.order, lambda order: order["status"] == status)

    async def shipment_of(self, seller: Person) -> str:
        shipments = (await self.order())["shipments"]
        return str(next(each["id"] for each in shipments if each["seller_id"] == str(seller.id)))


def caller_of(person: Person, account_type: str = "BUYER") -> Caller:
    return Caller(f"user:{person.id}", person.id, account_type)


async def stocked(shop: Shop, seller: Person, total: int = 10, **fields: object) -> dict[str, Any]:
    """A physical game with this many units in stock."""
    game = await shop.game(seller, kind="PHYSICAL", **fields)
    await shop.commands.inventory.set_total(caller_of(seller, "SELLER"), UUID(game["id"]), total)
    return game


async def buy(
    shop: Shop,
    buyer: Person,
    wanted: list[tuple[dict[str, Any], int]],
    method: Method | None = PAID,
) -> Parcels:
    """Put games into a cart, and check it out."""
    caller = caller_of(buyer)
    for game, quantity in wanted:
        await shop.commands.carts.add(caller, UUID(game["id"]), quantity)
    placed = await ordered(shop.commands.carts.check_out(caller, method, HOME))
    return Parcels(shop, buyer, placed.order_id)


async def move(
    seller: Person, shipment_id: str, step: str, body: object = None, **headers: str
) -> httpx.Response:
    path = f"/api/v1/shipments/{shipment_id}/{step}"
    answer: httpx.Response = await seller.put(path, json=body, headers=headers)
    return answer


async def send(seller: Person, shipment_id: str) -> None:
    """All steps of a seller."""
    for step, body in (("process", None), ("ship", PARCEL)):
        assert (await move(seller, shipment_id, step, body)).status_code == 200


async def delivered(
    shop: Shop, shipment_id: object, body: bytes | None = None, *, secret: str = "", late: float = 0
) -> httpx.Response:
    """The carrier's notice for this shipment, or with this body, signed this many seconds ago."""
    body = json.dumps({"shipment_id": str(shipment_id)}).encode() if body is None else body
    signature = sign(
        body, secret or shop.core.secrets.carrier[0], int(datetime.now(UTC).timestamp() - late)
    )
    path = f"/api/v1/shipments/{shipment_id}/delivered"
    return await shop.client().post(path, content=body, headers={"Carrier-Signature": signature})


async def told(shop: Shop, person: Person) -> list[str]:
    """The templates of the notifications sent to a person, sorted."""
    answer = await person.get("/api/v1/notifications", headers=await shop.reached())
    return sorted(each["template"] for each in answer.json()["items"] if each["channel"] == "email")


async def test_a_mixed_order_of_two_sellers_from_the_cart_to_the_door(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    other = await shop.register("SELLER")
    digital, chess = (
        await shop.game(seller, title="Celeste"),
        await stocked(shop, seller, title="Chess"),
    )
    catan = await stocked(shop, other, title="Catan")

    parcels = await buy(shop, buyer, [(digital, 1), (chess, 2), (catan, 1)])

    order = await parcels.becomes("CONFIRMED")
    assert [
        (each["seller_id"], each["status"], each["provisional"]) for each in order["shipments"]
    ] == [
        (str(seller.id), "PENDING", False),
        (str(other.id), "PENDING", False),
    ]

    async def owned() -> list[str]:
        answer = await buyer.get("/api/v1/library", headers=await shop.reached())
        return [each["title"] for each in answer.json()["items"]]

    assert await shop.eventually(owned) == ["Celeste"], (
        "what is digital is there as soon as it is paid"
    )

    mine, theirs = await parcels.shipment_of(seller), await parcels.shipment_of(other)
    assert (await move(seller, mine, "process")).json()["status"] == "PROCESSING"
    await parcels.becomes("PROCESSING")
    assert (await move(seller, mine, "ship", PARCEL)).json()["tracking_number"] == "BR1"
    assert (await delivered(shop, mine)).json()["status"] == "DELIVERED"
    assert (await parcels.order())["status"] == "PROCESSING", "the other seller's is still to come"
    await send(other, theirs)
    await parcels.becomes("SHIPPED")
    assert (await delivered(shop, theirs)).status_code == 200

    order = await parcels.becomes("DELIVERED")
    steps = [
        each["status"] for each in order["timeline"] if each["name"] == "order.status_changed.v1"
    ]
    assert steps == ["PROCESSING", "SHIPPED", "DELIVERED"]
    sent = [
        "purchase",
        *(["shipment_delivered", "shipment_processing", "shipment_shipped"] * 2),
        "welcome",
    ]
    assert await shop.eventually(
        lambda: told(shop, buyer), lambda found: len(found) == len(sent)
    ) == sorted(sent)
    assert "shipment_to_process" in await told(shop, other)


async def test_each_seller_is_paid_and_reports_their_own_lines(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    one, two = await shop.register("SELLER"), await shop.register("SELLER")
    digital, chess, catan = await shop.game(one), await stocked(shop, one), await stocked(shop, two)
    parcels = await buy(shop, buyer, [(digital, 1), (chess, 2), (catan, 1)])

    async def receipts() -> dict[str, int]:
        found = (await parcels.order())["receipts"]
        return {
            each["seller_id"]: each["amount_cents"] for each in found if each["status"] == "CREATED"
        }

    wanted = {str(one.id): 3 * 1999, str(two.id): 1999}
    assert await shop.eventually(receipts, lambda found: len(found) == 2) == wanted
    await account(shop, one, f"SELLER_PAYABLE:{one.id}", 5997 - 600)
    await account(shop, two, f"SELLER_PAYABLE:{two.id}", 1999 - 200)
    sales = await admin.get(
        "/api/v1/admin/analytics/sales", params={"group_by": "seller"}, headers=await shop.reached()
    )
    sold = {each["seller_id"]: each for each in sales.json()["items"]}
    figures = [
        [sold[str(seller.id)][name] for name in ("units", "gross_cents", "fee_cents")]
        for seller in (one, two)
    ]
    assert figures == [[3, 5997, 600], [1, 1999, 200]]


async def test_a_seller_sees_and_moves_their_own_shipments_only(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    other = await shop.register("SELLER")
    parcels = await buy(shop, buyer, [(await stocked(shop, seller), 1)])
    await parcels.becomes("CONFIRMED")
    mine = await parcels.shipment_of(seller)

    async def listed(person: Person, **query: str) -> list[str]:
        answer = await person.get("/api/v1/shipments", params=query, headers=await shop.reached())
        return [each["id"] for each in answer.json()["items"]]

    assert (await listed(seller), await listed(other)) == ([mine], [])
    assert (await listed(seller, status="SHIPPED"), await listed(seller, status="PENDING")) == (
        [],
        [mine],
    )
    assert mine in await listed(admin)
    assert (await buyer.get("/api/v1/shipments")).status_code == 403
    answers = [
        await person.get(f"/api/v1/shipments/{mine}") for person in (seller, buyer, admin, other)
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 403]
    for step, body in (("process", None), ("ship", PARCEL)):
        refused = await move(other, mine, step, body)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_yours")


async def test_a_step_is_taken_once_and_on_what_the_seller_has_seen(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    parcels = await buy(shop, buyer, [(await stocked(shop, seller), 1)])
    await parcels.becomes("CONFIRMED")
    mine = await parcels.shipment_of(seller)
    seen = (await seller.get(f"/api/v1/shipments/{mine}", headers=await shop.reached())).headers[
        "etag"
    ]

    early = await move(seller, mine, "ship", PARCEL)
    first = await move(seller, mine, "process", **{"If-Match": seen})
    stale = await move(seller, mine, "ship", PARCEL, **{"If-Match": seen})
    again = await move(seller, mine, "process")

    assert (early.status_code, early.json()["code"]) == (409, "shipment_not_processing")
    assert (first.status_code, first.headers["etag"]) == (200, '"3"')
    assert (stale.status_code, again.status_code, again.json()["code"]) == (
        412,
        409,
        "shipment_not_pending",
    )


async def test_nothing_is_sent_before_it_is_paid_nor_after_it_was_called_off(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    parcels = await buy(shop, buyer, [(await stocked(shop, seller), 1)], method=None)
    mine = await parcels.shipment_of(seller)

    unpaid = await move(seller, mine, "process")
    assert (unpaid.status_code, unpaid.json()["code"]) == (409, "shipment_provisional")
    assert (await seller.get("/api/v1/shipments", headers=await shop.reached())).json()[
        "items"
    ] == []

    assert (await buyer.post(f"/api/v1/orders/{parcels.order_id}/cancel")).status_code == 200
    order = await parcels.becomes("CANCELLED")
    assert [each["status"] for each in order["shipments"]] == ["CANCELLED"]
    assert (await move(seller, mine, "process")).status_code == 409
    assert "order_cancelled" in await shop.eventually(
        lambda: told(shop, buyer), lambda found: "order_cancelled" in found
    )


async def test_a_full_refund_calls_back_what_has_not_gone_yet(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    other = await shop.register("SELLER")
    parcels = await buy(
        shop, buyer, [(await stocked(shop, seller), 1), (await stocked(shop, other), 1)]
    )
    await parcels.becomes("CONFIRMED")
    mine = await parcels.shipment_of(seller)
    await send(seller, mine)
    await parcels.becomes("PROCESSING")

    refund = await admin.post(f"/api/v1/orders/{parcels.order_id}/refund", json={"reason": "lost"})

    assert refund.status_code == 201, refund.text
    order = await parcels.becomes("REFUNDED")
    assert [each["status"] for each in order["shipments"]] == ["SHIPPED", "CANCELLED"]
    assert (await delivered(shop, mine)).status_code == 200
    assert (await parcels.order())["status"] == "REFUNDED"
    assert await shop.eventually(
        lambda: told(shop, other), lambda found: "shipment_cancelled" in found
    )


async def test_the_address_is_shown_to_buyer_sender_and_admin_and_readable_nowhere_else(
    shop: Shop, buyer: Person, seller: Person, admin: Person, auditor: Person
) -> None:
    parcels = await buy(shop, buyer, [(await stocked(shop, seller), 1)])
    order = await parcels.becomes("CONFIRMED")

    assert order["shipping_address"] == HOME
    assert (await parcels.order(admin))["shipping_address"] == HOME
    path, past = f"/api/v1/orders/{parcels.order_id}", {"as_of": str(await shop.core.log.head())}
    assert (await auditor.get(path, params=past)).json()["shipping_address"] is None
    assert (await seller.get(path)).status_code == 403
    shipment = await seller.get(f"/api/v1/shipments/{await parcels.shipment_of(seller)}")
    assert shipment.json()["shipping_address"] == HOME
    await send(seller, shipment.json()["id"])
    await delivered(shop, shipment.json()["id"])
    path, now = f"/api/v1/shipments/{shipment.json()['id']}", await shop.reached()
    told = [
        (await who.get(path, headers=now)).json()["shipping_address"]
        for who in (seller, buyer, admin)
    ]
    assert told == [None, HOME, HOME], "once it has arrived, the seller needs it no more"
    stored = str(await shop.core.log.read_stream_raw(parcels.order_id))
    assert ("Celeste" in stored, "Augusta" in stored) == (True, False)


async def test_the_address_of_who_is_forgotten_is_gone_for_all(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    parcels = await buy(shop, buyer, [(await stocked(shop, seller), 1)])
    await parcels.becomes("CONFIRMED")
    mine = await parcels.shipment_of(seller)
    await send(seller, mine)
    await delivered(shop, mine)
    path = f"/api/v1/shipments/{mine}"
    assert (await admin.get(path)).json()["shipping_address"] == HOME

    assert (
        await admin.delete(f"/api/v1/users/{buyer.id}", params={"forget": "true"})
    ).status_code == 204

    assert (await admin.get(path)).json()["shipping_address"] is None
    assert (await parcels.order(admin))["shipping_address"] is None


async def test_the_order_has_come_as_far_when_the_sellers_step_is_answered(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    parcels = await buy(shop, buyer, [(await stocked(shop, seller), 1)])
    await parcels.becomes("CONFIRMED")
    mine = await parcels.shipment_of(seller)
    for step, status in (("process", "PROCESSING"), ("ship", "SHIPPED"), ("deliver", "DELIVERED")):
        answer = (
            await delivered(shop, mine)
            if step == "deliver"
            else await move(seller, mine, step, PARCEL if step == "ship" else None)
        )
        reached = {"Min-Position": answer.headers["event-position"]}
        order = (await buyer.get(f"/api/v1/orders/{parcels.order_id}", headers=reached)).json()
        assert order["status"] == status


# -- the carrier's notices -------------------------------------------------------------------------


async def shipped(shop: Shop, buyer: Person, seller: Person) -> str:
    """A shipment under way."""
    parcels = await buy(shop, buyer, [(await stocked(shop, seller), 1)])
    await parcels.becomes("CONFIRMED")
    mine = await parcels.shipment_of(seller)
    await send(seller, mine)
    return mine


def notice(shipment_id: object, at: datetime | str) -> bytes:
    return json.dumps({"shipment_id": str(shipment_id), "delivered_at": str(at)}).encode()


async def test_a_notice_counts_once_by_the_time_that_it_tells(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    mine = await shipped(shop, buyer, seller)
    at = (datetime.now(UTC) - timedelta(minutes=4)).replace(microsecond=0)
    by_number = json.dumps({"tracking_number": PARCEL["tracking_number"]}).encode()

    answers = [await delivered(shop, mine, body) for body in (notice(mine, at), None, by_number)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.headers["etag"] for answer in answers}) == 1
    shipment = (await buyer.get(f"/api/v1/shipments/{mine}", headers=await shop.reached())).json()
    assert (shipment["status"], datetime.fromisoformat(shipment["delivered_at"])) == (
        "DELIVERED",
        at,
    )


@pytest.mark.parametrize(
    "body", [b"{}", b"", b'{"delivered_at": null, "tracking_number": null, "shipment_id": null}']
)
async def test_a_notice_of_no_parcel_delivers_none(
    shop: Shop, buyer: Person, seller: Person, body: bytes
) -> None:
    mine = await shipped(shop, buyer, seller)

    refused = await delivered(shop, mine, body)

    assert (refused.status_code, refused.json()["code"]) == (422, "parcel_not_named")
    assert (await buyer.get(f"/api/v1/shipments/{mine}", headers=await shop.reached())).json()[
        "status"
    ] == "SHIPPED"


async def test_nothing_is_delivered_before_it_was_shipped_nor_at_a_time_that_is_none(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    mine, now = await shipped(shop, buyer, seller), datetime.now(UTC)
    times: list[datetime | str] = [
        now - timedelta(seconds=400), now + timedelta(hours=1), "0001-01-01T00:00:00+01:00",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59-01:00",
    ]  # fmt: skip
    for at in times:
        refused = await delivered(shop, mine, notice(mine, at))
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_delivered_at"), at
    ahead = await delivered(shop, mine, notice(mine, datetime.now(UTC) + timedelta(seconds=200)))

    assert ahead.status_code == 200
    seen = (await buyer.get(f"/api/v1/shipments/{mine}", headers=await shop.reached())).json()
    assert datetime.fromisoformat(seen["delivered_at"]) <= datetime.now(UTC), (
        "a clock that is ahead writes no future"
    )


async def test_an_admin_says_by_hand_that_it_was_delivered_and_mends_when(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    mine = await shipped(shop, buyer, seller)
    path, key = f"/api/v1/shipments/{mine}/delivered", {"Idempotency-Key": uuid4().hex}
    said = {"reason": "the neighbour has it"}
    for who, body, status in (
        (seller, said, 403), (buyer, {}, 403), (admin, {}, 422), (admin, {"reason": "  "}, 422),
        (admin, {**said, "delivered_at": "0001-01-01T00:00:00+01:00"}, 422), (admin, {**said,
        "more": 1}, 422),
        (admin, {**said, "delivered_at": "2026-01-01T00:00:00Z"}, 422), (shop.client(), said, 400),
        (shop.client("nonsense"), said, 401),
    ):  # fmt: skip
        assert (await who.post(path, json=body)).status_code == status, (body, status)
    assert (await admin.post(path, content=b"{")).status_code == 400

    first, again = [await admin.post(path, json=said, headers=key) for _ in range(2)]
    assert (first.status_code, first.json()["status"]) == (200, "DELIVERED")
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    at = (datetime.now(UTC) - timedelta(minutes=4)).replace(microsecond=0)
    mended = await admin.post(
        path, json={"reason": "it was earlier", "delivered_at": at.isoformat()}
    )

    assert (mended.status_code, mended.json()["version"]) == (200, first.json()["version"] + 1)
    seen = (await buyer.get(f"/api/v1/shipments/{mine}", headers=await shop.reached())).json()
    assert (seen["status"], datetime.fromisoformat(seen["delivered_at"])) == ("DELIVERED", at)
    found = await shop.eventually(
        lambda: told(shop, buyer), lambda found: "shipment_delivered" in found
    )
    assert found.count("shipment_delivered") == 1, "a correction is no second delivery"
    events = await shop.core.log.read_stream(UUID(mine))
    assert [each.event.reason for each in events[-2:]] == ["the neighbour has it", "it was earlier"]


async def test_a_notice_that_names_a_parcel_counts_for_no_other(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    mine = await shipped(shop, buyer, seller)
    named = {"shipment_id": mine, "tracking_number": PARCEL["tracking_number"]}

    for other in ({"shipment_id": str(uuid4())}, {"tracking_number": "BR2"}):
        refused = await delivered(shop, mine, json.dumps({**named, **other}).encode())
        assert (refused.status_code, refused.json()["code"]) == (409, "wrong_shipment")
    assert (await delivered(shop, mine, json.dumps(named).encode())).json()["status"] == "DELIVERED"


@pytest.mark.parametrize(
    "how",
    [{"secret": "whsec_another"}, {"late": 302}, {"late": -302}],
    ids=["forged", "stale", "of the future"],
)
async def test_a_notice_that_the_carrier_did_not_sign_just_now_is_refused(
    shop: Shop, buyer: Person, seller: Person, how: dict[str, Any]
) -> None:
    mine = await shipped(shop, buyer, seller)
    refused = await delivered(shop, mine, **how)
    unsigned = await shop.client().post(f"/api/v1/shipments/{mine}/delivered", json={})
    assert [(each.status_code, each.json()["code"]) for each in (refused, unsigned)] == [
        (400, "invalid_signature")
    ] * 2
    shipment = await seller.get(f"/api/v1/shipments/{mine}", headers=await shop.reached())
    assert shipment.json()["status"] == "SHIPPED"


async def test_a_signed_notice_that_cannot_be_is_refused(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    parcels = await buy(shop, buyer, [(await stocked(shop, seller), 1)])
    await parcels.becomes("CONFIRMED")
    mine = await parcels.shipment_of(seller)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    cases = [
        (uuid4(), None, 404, "shipment_not_found"),
        (mine, None, 409, "shipment_not_shipped"),
        (mine, b"[", 422, "malformed_notice"),
        (mine, b'{"a":' * 5000, 422, "malformed_notice"),
        (mine, b'{"tracking_number": "\xff"}', 422, "malformed_notice"),
        (mine, notice(mine, "2026-01-01T12:00:00"), 422, "malformed_notice"),
        (mine, json.dumps({"tracking_number": "1" * 65}).encode(), 422, "malformed_notice"),
        (mine, notice(mine, tomorrow), 422, "invalid_delivered_at"),
    ]
    for shipment_id, body, status, code in cases:
        answer = await delivered(shop, shipment_id, body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_seller_hears_once_that_stock_runs_low(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    chess = await stocked(shop, seller, total=7, title="Chess")
    for _ in range(2):
        ann = await shop.register()
        await put_in(ann, chess, 3)
        await check_out(ann)

    async def heard() -> list[str]:
        return [each for each in await told(shop, seller) if each == "low_stock"]

    assert await shop.eventually(heard) == ["low_stock"]
    subject, _ = render("low_stock", {"title": "Chess", "sku": "S", "available": "5"})
    assert subject == "Low stock: Chess"
