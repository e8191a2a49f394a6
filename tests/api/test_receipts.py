"""Fiscal receipts of orders, and sales figures, over HTTP, with a worker and a fiscal operator."""

import asyncio
from datetime import UTC, date, datetime
from typing import Any
from uuid import uuid4

import httpx

from tests.support.shops.gateway import CARD, Person, Shop

SALES = "/api/v1/admin/analytics/sales"


async def buy(buyer: Person, game: dict[str, Any]) -> dict[str, Any]:
    card = {"type": "card", "token": CARD}
    body = {
        "game_id": game["id"],
        **({"payment_method": card} if game["prices"][0]["amount_cents"] else {}),
    }
    answer = await buyer.post("/api/v1/orders", json=body, headers={"Prefer": "wait=10"})
    assert (answer.status_code, answer.json()["status"]) == (201, "COMPLETED"), answer.text
    return dict(answer.json())


async def receipt_of(shop: Shop, person: Person, order: dict[str, Any]) -> httpx.Response:
    """The answer once the receipt exists."""

    async def look() -> httpx.Response:
        path = f"/api/v1/orders/{order['order_id']}/receipt"
        return await person.get(path, headers=await shop.reached())

    return await shop.eventually(look, lambda answer: answer.status_code != 404)


async def test_who_buys_gets_a_fiscal_receipt_that_can_be_seen(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    order = await buy(buyer, await shop.game(seller))

    answer = await receipt_of(shop, buyer, order)

    receipt = answer.json()
    assert answer.status_code == 200, answer.text
    (own,) = receipt.pop("receipts")
    assert own == receipt
    assert (receipt["order_id"], receipt["seller_id"]) == (order["order_id"], str(seller.id))
    assert (receipt["number"], receipt["year"], receipt["status"]) == (
        1,
        datetime.now(UTC).year,
        "CREATED",
    )
    assert (receipt["amount_cents"], receipt["currency"]) == (1999, "USD")
    assert receipt["issued_at"].endswith("Z")
    page = await asyncio.to_thread(httpx.get, receipt["url"])
    assert f"Receipt 1/{receipt['year']}" in page.text


async def test_an_order_shows_its_receipt_and_when_it_came(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    placed = await buy(buyer, await shop.game(seller))
    receipt = (await receipt_of(shop, buyer, placed)).json()

    order = (
        await buyer.get(f"/api/v1/orders/{placed['order_id']}", headers=await shop.reached())
    ).json()

    assert [order["receipt"]] == order["receipts"] == receipt["receipts"]
    names = [each["name"] for each in order["timeline"]]
    assert (
        names.count("payment.fiscal.receipt.requested.v1")
        == names.count("payment.fiscal.receipt.created.v1")
        == 1
    )


async def test_a_sellers_receipts_are_numbered_in_a_row(shop: Shop, seller: Person) -> None:
    game = await shop.game(seller)
    buyers = await asyncio.gather(*(shop.register() for _ in range(4)))
    orders = await asyncio.gather(*(buy(each, game) for each in buyers))
    receipts = [
        await receipt_of(shop, person, order) for person, order in zip(buyers, orders, strict=True)
    ]
    assert sorted(receipt.json()["number"] for receipt in receipts) == [1, 2, 3, 4]


async def test_a_free_order_has_no_receipt(shop: Shop, buyer: Person, seller: Person) -> None:
    free = await buy(
        buyer,
        await shop.game(seller, prices=[{"region": "*", "amount_cents": 0, "currency": "USD"}]),
    )
    await receipt_of(shop, buyer, await buy(buyer, await shop.game(seller)))

    answer = await buyer.get(
        f"/api/v1/orders/{free['order_id']}/receipt", headers=await shop.reached()
    )

    assert (answer.status_code, answer.json()["code"]) == (404, "receipt_not_found")
    order = (await buyer.get(f"/api/v1/orders/{free['order_id']}")).json()
    assert (order["receipt"], order["receipts"]) == (None, [])


async def test_a_receipt_is_for_the_buyer_and_administrators(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    order = await buy(buyer, await shop.game(seller))
    receipt = await receipt_of(shop, admin, order)

    assert receipt.json() == (await receipt_of(shop, buyer, order)).json()
    assert (await receipt_of(shop, seller, order)).json()["code"] == "not_yours"
    nowhere = await buyer.get(f"/api/v1/orders/{uuid4()}/receipt")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "order_not_found")


async def test_administrators_see_what_was_sold(
    shop: Shop, seller: Person, admin: Person, buyer: Person
) -> None:
    price = [{"region": "*", "amount_cents": 1000, "currency": "NOK"}]
    games = [await shop.game(seller, prices=price) for _ in range(2)]
    orders = [await buy(buyer, game) for game in games]
    refund = {"amount_cents": 300, "reason": "late"}
    refunded = await admin.post(f"/api/v1/orders/{orders[0]['order_id']}/refund", json=refund)
    assert refunded.status_code == 201, refunded.text

    async def report(**wanted: str) -> dict[str, Any]:
        answer = await admin.get(
            SALES, params={"currency": "NOK", **wanted}, headers=await shop.reached()
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def went_back(found: dict[str, Any]) -> bool:
        return bool(found["totals"][0]["refunded_cents"])

    by_day = await shop.eventually(report, went_back)
    figures = {
        "currency": "NOK",
        "orders": 2,
        "units": 2,
        "gross_cents": 2000,
        "refunded_cents": 300,
        "fee_cents": 170,
    }
    whole, today = {"next_cursor": None, "totals": [figures]}, datetime.now(UTC).date().isoformat()
    assert by_day == {"items": [{**figures, "day": today}], **whole}
    by_seller = await report(group_by="seller")
    assert by_seller == {"items": [{**figures, "seller_id": str(seller.id)}], **whole}
    first = await report(group_by="game", limit="1")
    second = await report(group_by="game", limit="1", cursor=first["next_cursor"])
    assert {each["game_id"] for page in (first, second) for each in page["items"]} == {
        game["id"] for game in games
    }
    assert (first["items"][0]["gross_cents"], first["totals"], second["next_cursor"]) == (
        1000,
        [figures],
        None,
    )
    nothing: dict[str, Any] = {"items": [], "next_cursor": None, "totals": []}
    assert await report(**{"from": "2020-01-01", "to": "2020-01-31"}) == nothing


async def test_sales_are_for_administrators_and_for_periods_that_make_sense(
    shop: Shop, buyer: Person, admin: Person
) -> None:
    assert (await buyer.get(SALES)).status_code == 403
    assert (await shop.client().get(SALES)).status_code == 401
    backwards = await admin.get(SALES, params={"from": "2026-02-01", "to": "2026-01-01"})
    assert (backwards.status_code, backwards.json()["code"]) == (422, "invalid_period")
    for nonsense in (
        {"from": "yesterday"},
        {"to": date.min.isoformat()},
        {"group_by": "week"},
        {"currency": "XXX"},
    ):
        assert (await admin.get(SALES, params=nonsense)).status_code == 422
