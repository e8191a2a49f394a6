"""Search results are written as their model says, field by field."""

from api.views.games import SearchPage
from tests.support.shops.gateway import Person, Shop


async def test_results_are_what_their_model_would_write(shop: Shop, seller: Person) -> None:
    await shop.game(
        seller,
        title="Ampère & <Ohm> “♥”",
        description='a\tb\u2028"c"',
        tags=["Elec\\tro"],
        release_date="2020-02-29",
        platforms=["linux"],
        prices=[
            {"region": "*", "amount_cents": 100, "currency": "USD"},
            {"region": "BR", "amount_cents": 200, "currency": "BRL"},
        ],
    )
    in_us = {"region": "US", "amount_cents": 300, "currency": "USD"}
    boxed = await shop.game(seller, title="Ampere 2", kind="PHYSICAL", prices=[in_us])
    stock = {"product_id": boxed["id"], "total_quantity": 3}
    assert (await seller.put("/api/v1/inventory/stock", json=stock)).is_success

    for query in ("q=ampere&limit=1", "q=ampree&region=BR", "q=&sort=title", "q=!&sort=price"):
        answer = await shop.client().get(
            f"/api/v1/games/search?seller_id={seller.id}&{query}", headers=await shop.reached()
        )
        page = SearchPage.model_validate_json(answer.content)
        assert page.model_dump_json() == answer.text

    found = (
        await shop.client().get(
            f"/api/v1/games/search?q=ampere&seller_id={seller.id}&region=BR",
            headers=await shop.reached(),
        )
    ).json()["items"]
    assert {each["title"]: (each["price"], each["available"]) for each in found} == {
        "Ampère & <Ohm> “♥”": ({"amount_cents": 200, "currency": "BRL"}, None),
        "Ampere 2": (None, 3),
    }
