"""The export of everything stored about an account, for its owner."""

import json
from typing import Any

from queries.accounts.exports import Export
from tests.support.shops.gateway import CARD, Person, Shop
from tests.support.shops.market import ADDRESS, check_out, code_of, put_in, stocked
from tests.support.shops.money import filled_wallet, open_wallet

WAIT = {"Prefer": "wait=10"}


async def export_of(by: Person, whose: str = "me") -> dict[str, Any]:
    answer = await by.get(f"/api/v1/users/{whose}/export")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def bought(shop: Shop, buyer: Person, seller: Person) -> tuple[str, str]:
    """A paid parcel and a digital game."""
    await put_in(buyer, await stocked(shop, seller, 3))
    parcel = (await check_out(buyer)).json()["order_id"]
    method = {"type": "card", "token": CARD}
    game = await shop.game(seller)
    digital = await buyer.post(
        "/api/v1/orders", json={"game_id": game["id"], "payment_method": method}, headers=WAIT
    )
    for each in (parcel, digital.json()["order_id"]):

        async def now(order_id: str = each) -> str:
            found = await buyer.get(f"/api/v1/orders/{order_id}", headers=await shop.reached())
            return str(found.json()["status"])

        await shop.eventually(now, lambda status: status in {"CONFIRMED", "COMPLETED"})
    return parcel, digital.json()["order_id"]


async def test_a_buyers_export_has_all_that_they_did(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    wallet = await filled_wallet(buyer, admin, 500)
    parcel, digital = await bought(shop, buyer, seller)

    async def whole() -> dict[str, Any]:
        return await export_of(buyer)

    found = await shop.eventually(whole, lambda each: each["library"])

    assert (found["account"]["email"], found["account"]["user_id"]) == (buyer.email, str(buyer.id))
    [registered] = [each for each in found["history"] if each["name"] == "user.registered.v1"]
    assert registered["data"]["email"] == buyer.email
    assert [each["ended"] for each in found["sessions"]] == [False]
    orders = {each["order_id"]: each for each in found["orders"]}
    assert orders.keys() == {parcel, digital}
    assert orders[parcel]["shipping_address"] == ADDRESS
    assert orders[parcel]["shipments"][0]["status"] == "PENDING"
    assert {each["order_id"] for each in found["payments"]} == {parcel, digital}
    assert [
        (each["wallet_id"], each["statement"][0]["amount_cents"]) for each in found["wallets"]
    ] == [(wallet["id"], 500)]
    assert [each["order_id"] for each in found["library"]] == [digital]
    assert [each["order_id"] for each in found["carts"]] == [parcel]
    assert "welcome" in {each["template"] for each in found["notifications"]}
    assert found["games"] == found["sales"] == found["webhook_endpoints"] == []


async def test_a_sellers_export_has_what_they_sold_and_not_to_whom(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    parcel, digital = await bought(shop, buyer, seller)
    found = await export_of(seller)
    assert len(found["games"]) == 2
    assert {each["order_id"] for each in found["sales"]} == {parcel, digital}
    assert {line["seller_id"] for sale in found["sales"] for line in sale["lines"]} == {
        str(seller.id)
    }
    assert [each["order_id"] for each in found["shipments"]] == [parcel]
    (payable,) = [each for each in found["payables"]["accounts"] if each["currency"] == "USD"]
    assert (
        sum(each["amount_cents"] for each in found["payables"]["entries"])
        == payable["credits_cents"]
        > 0
    )
    assert [each["total"] for each in found["stock"]] == [2]
    assert {each["order_id"] for each in found["receipts"]} <= {parcel, digital}
    assert str(buyer.id) not in json.dumps(found)
    assert buyer.email not in json.dumps(found)


async def test_an_export_has_more_than_a_page_of_each(shop: Shop, admin: Person) -> None:
    seller = await shop.register("SELLER")
    games = [await shop.game(seller, status="DRAFT") for _ in range(205)]
    found = await export_of(seller)
    assert {each["game_id"] for each in found["games"]} == {each["id"] for each in games}


async def test_nothing_in_it_proves_who_somebody_is(
    shop: Shop, buyer: Person, seller: Person
) -> None:
    await bought(shop, buyer, seller)
    said = json.dumps(await export_of(buyer))
    for secret in (
        "client_secret",
        "password_hash",
        "email_digest",
        '"token"',
        buyer.tokens["refresh_token"],
    ):
        assert secret not in said


async def test_an_export_is_its_owners_and_an_admins(
    shop: Shop, buyer: Person, seller: Person, admin: Person
) -> None:
    await open_wallet(buyer)
    path = f"/api/v1/users/{buyer.id}/export"
    assert code_of(await seller.get(path)) == (403, "not_yours")
    assert (await shop.client().get(path)).status_code == 401
    assert (await export_of(admin, str(buyer.id)))["wallets"] == (await export_of(buyer))["wallets"]
    assert (await admin.get(f"/api/v1/users/{seller.id}0/export")).status_code == 422


async def test_every_section_is_documented(shop: Shop) -> None:
    schemas = (await shop.client().get("/openapi.json")).json()["components"]["schemas"]
    told = schemas["AccountExport"]["properties"]
    assert set(Export.__struct_fields__) | {"history", "sessions"} == told.keys()
    assert all(section.get("description") for section in told.values())
