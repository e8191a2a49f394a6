"""What games are offered for that a list only names."""

from typing import Any

from tests.support.shops.gateway import Person, Shop
from tests.support.shops.market import stocked

PATH = "/api/v1/games/offers"


async def offers(shop: Shop, who: Any, *games: dict[str, Any]) -> dict[str, dict[str, Any]]:
    asked = [("game_id", game["id"]) for game in games]
    found = await who.get(PATH, params=asked, headers=await shop.reached())
    assert found.status_code == 200, found.text
    return {each["game_id"]: each for each in found.json()["items"]}


async def test_several_games_are_asked_for_at_once(shop: Shop, seller: Person) -> None:
    catan, celeste = await stocked(shop, seller, 3, title="Catan"), await shop.game(seller)

    found = await offers(shop, shop.client(), catan, celeste)

    price = {"amount_cents": 1999, "currency": "USD"}
    assert found == {
        catan["id"]: {"game_id": catan["id"], "price": price, "available": 3, "image_urls": []},
        celeste["id"]: {
            "game_id": celeste["id"],
            "price": price,
            "available": None,
            "image_urls": [],
        },
    }


async def test_a_draft_is_shown_to_its_seller_and_an_admin_alone(
    shop: Shop, seller: Person, buyer: Person, admin: Person
) -> None:
    draft = await shop.game(seller, status="DRAFT")

    assert await offers(shop, buyer, draft) == await offers(shop, shop.client(), draft) == {}
    for each in (seller, admin):
        assert set(await offers(shop, each, draft)) == {draft["id"]}


async def test_a_game_that_is_retired_keeps_its_pictures(
    shop: Shop, seller: Person, buyer: Person
) -> None:
    game = await shop.game(seller)
    await seller.delete(f"/api/v1/games/{game['id']}")

    assert set(await offers(shop, buyer, game)) == {game["id"]}


async def test_some_games_have_to_be_named_and_not_too_many(shop: Shop) -> None:
    many = [f"00000000-0000-4000-8000-{number:012}" for number in range(201)]
    for asked in ([], many, ["none"]):
        refused = await shop.client().get(PATH, params={"game_id": asked})
        assert refused.status_code == 422, asked[:1]
