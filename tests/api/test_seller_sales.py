"""Sellers see what they sold, digital games too, and nothing of others or of the buyers."""

from typing import Any
from uuid import uuid4

from tests.support.shops.gateway import CARD, DECLINED, Person, Shop

SALES, ANALYTICS = "/api/v1/seller/sales", "/api/v1/seller/analytics"


async def buy(buyer: Person, game: dict[str, Any], card: str = CARD) -> dict[str, Any]:
    body = {"game_id": game["id"], "payment_method": {"type": "card", "token": card}}
    answer = await buyer.post("/api/v1/orders", json=body, headers={"Prefer": "wait=10"})
    return dict(answer.json())


async def asked(shop: Shop, person: Person, path: str, **query: Any) -> dict[str, Any]:
    answer = await person.get(path, params=query, headers=await shop.reached())
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_a_digital_sale_is_listed_with_what_it_brings_in(
    shop: Shop, seller: Person, buyer: Person
) -> None:
    game = await shop.game(seller)
    order = await buy(buyer, game)

    (sale,) = (await asked(shop, seller, SALES))["items"]

    assert (sale["id"], sale["status"], sale["currency"]) == (order["order_id"], "COMPLETED", "USD")
    (line,) = sale["lines"]
    assert (line["game_id"], line["title"], line["kind"]) == (game["id"], "Celeste", "DIGITAL")
    for part in (line, sale):
        assert (part["gross_cents"], part["refunded_cents"], part["fee_cents"]) == (1999, 0, 200)
    assert str(buyer.id) not in str(sale)
    assert (await asked(shop, seller, "/api/v1/orders"))["items"] == []


async def test_only_paid_orders_are_sales_and_refunds_show(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    game = await shop.game(seller)
    await buy(buyer, game, DECLINED)
    await buyer.post("/api/v1/orders", json={"game_id": game["id"]})  # unpaid
    assert (await asked(shop, seller, SALES))["items"] == []
    other = await shop.register()
    order = await buy(other, game)
    await admin.post(
        f"/api/v1/orders/{order['order_id']}/refund", json={"amount_cents": 999, "reason": "late"}
    )

    async def refunded() -> bool:
        (sale,) = (await asked(shop, seller, SALES))["items"]
        return bool(sale["refunded_cents"] == 999)

    await shop.eventually(refunded)


async def test_of_an_order_from_two_sellers_each_sees_the_own_lines(
    shop: Shop, seller: Person, buyer: Person
) -> None:
    other = await shop.register("SELLER")
    games = [await shop.game(each, title=title) for each, title in ((seller, "A"), (other, "B"))]
    for game in games:
        answer = await buyer.post(
            "/api/v1/cart/items", json={"product_id": game["id"], "quantity": 1}
        )
        assert answer.status_code == 201, answer.text
    paid = await buyer.post(
        "/api/v1/cart/checkout",
        json={"payment_method": {"type": "card", "token": CARD}},
        headers={"Prefer": "wait=10"},
    )
    assert paid.status_code == 201, paid.text

    found = [(await asked(shop, each, SALES))["items"] for each in (seller, other)]

    assert [[line["title"] for sale in sales for line in sale["lines"]] for sales in found] == [
        ["A"],
        ["B"],
    ]
    assert {sale["order_id"] for sales in found for sale in sales} == {paid.json()["order_id"]}


async def test_sales_come_page_by_page_the_latest_first(shop: Shop, seller: Person) -> None:
    game = await shop.game(seller)
    orders = [(await buy(await shop.register(), game))["order_id"] for _ in range(3)]

    first = await asked(shop, seller, SALES, limit=2)
    rest = await asked(shop, seller, SALES, limit=2, cursor=first["next_cursor"])

    found = [each["order_id"] for each in [*first["items"], *rest["items"]]]
    assert (found, rest["next_cursor"]) == (orders[::-1], None)


async def test_the_report_covers_the_own_sales_by_day_and_by_game(
    shop: Shop, seller: Person
) -> None:
    cheap = [{"region": "*", "amount_cents": 1000, "currency": "USD"}]
    one, two = await shop.game(seller), await shop.game(seller, prices=cheap)
    for game in (one, two, two):
        await buy(await shop.register(), game)
    await buy(await shop.register(), await shop.game(await shop.register("SELLER")))

    by_game = await asked(shop, seller, ANALYTICS, group_by="game")
    by_day = await asked(shop, seller, ANALYTICS)

    assert {
        (each["game_id"], each["orders"], each["gross_cents"]) for each in by_game["items"]
    } == {
        (one["id"], 1, 1999),
        (two["id"], 2, 2000),
    }
    assert sum(each["gross_cents"] for each in by_day["items"]) == 3999
    assert by_game["totals"] == by_day["totals"]
    assert [(each["currency"], each["gross_cents"]) for each in by_day["totals"]] == [("USD", 3999)]


async def test_a_report_by_game_names_their_titles(shop: Shop, seller: Person) -> None:
    one, two = await shop.game(seller, title="One"), await shop.game(seller, title="Two")
    for game in (one, two):
        await buy(await shop.register(), game)

    by_game = await asked(shop, seller, ANALYTICS, group_by="game")

    assert {each["game_id"]: each["title"] for each in by_game["items"]} == {
        one["id"]: "One",
        two["id"]: "Two",
    }
    assert all("title" not in each for each in (await asked(shop, seller, ANALYTICS))["items"])


async def test_others_may_not_see_them_and_an_admin_may(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    await buy(buyer, await shop.game(seller))
    other = await shop.register("SELLER")
    for path in (SALES, ANALYTICS):
        assert (await buyer.get(path)).json()["code"] == "role_required"
        refused = await other.get(path, params={"seller_id": str(seller.id)})
        assert (refused.status_code, refused.json()["code"]) == (403, "not_yours")
    assert len((await asked(shop, admin, SALES, seller_id=seller.id))["items"]) == 1
    unknown = await admin.get(SALES, params={"seller_id": str(uuid4())})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "user_not_found")
    wrong = await seller.get(ANALYTICS, params={"group_by": "seller"})
    assert wrong.status_code == 422
