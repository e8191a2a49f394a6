"""The categories and genres of the games on sale, with counts."""

from typing import Any

from tests.support.shops.gateway import Person, Shop


async def listed(shop: Shop, path: str) -> list[tuple[str, int]]:
    answer = await shop.client().get(f"/api/v1/{path}", headers=await shop.reached())
    assert answer.status_code == 200, answer.text
    return [(each["value"], each["count"]) for each in answer.json()["items"]]


async def games(shop: Shop, seller: Person, *each_fields: dict[str, Any]) -> list[dict[str, Any]]:
    return [await shop.game(seller, **fields) for fields in each_fields]


async def test_genres_are_counted_in_games_on_sale_whatever_their_spelling(
    shop: Shop, seller: Person
) -> None:
    before = dict(await listed(shop, "genres"))
    assert "Pinball" not in before
    *_, twice, _ = await games(
        shop,
        seller,
        {"genres": ["Pinball"]},
        {"genres": ["Pinball"]},
        {"genres": ["pinball", "PINBALL"]},
        {"genres": ["Pinball"], "status": "DRAFT"},
    )

    after = dict(await listed(shop, "genres"))
    assert after["Pinball"] == 3
    assert not {"pinball", "PINBALL"} & after.keys()

    assert (await seller.delete(f"/api/v1/games/{twice['id']}")).status_code == 204
    assert dict(await listed(shop, "genres"))["Pinball"] == 2


async def test_those_of_most_games_come_first_page_by_page(shop: Shop, seller: Person) -> None:
    await games(
        shop,
        seller,
        {"category": "Tops"},
        {"category": "Kites"},
        {"category": "Kites"},
        {"category": "Yo-yos"},
    )
    whole = await listed(shop, "categories")
    counts = [count for _, count in whole]
    assert counts == sorted(counts, reverse=True)
    assert whole.index(("Kites", 2)) < whole.index(("Tops", 1)) < whole.index(("Yo-yos", 1))

    found: list[tuple[str, int]] = []
    url = "/api/v1/categories?limit=1"
    while True:
        page = (await shop.client().get(url)).json()
        found += [(each["value"], each["count"]) for each in page["items"]]
        if page["next_cursor"] is None:
            break
        url = f"/api/v1/categories?limit=1&cursor={page['next_cursor']}"
    assert found == whole


async def test_each_value_filters_the_games_that_it_counts(shop: Shop, seller: Person) -> None:
    await games(shop, seller, {"genres": ["Mahjong"]}, {"genres": ["mahjong", "Tiles"]})
    for genre, count in await listed(shop, "genres"):
        found = await shop.client().get("/api/v1/games", params={"genre": genre, "limit": 200})
        assert len(found.json()["items"]) == count, genre


async def test_a_cursor_of_another_list_is_refused(shop: Shop) -> None:
    answer = await shop.client().get("/api/v1/genres?cursor=bmV3OlsxXQ")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
