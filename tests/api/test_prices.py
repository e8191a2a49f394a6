"""Regional prices: in every view, in lists filtered and sorted by price, and in facets."""

import io
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from PIL import Image

from tests.support.shops.gateway import Person, Shop

CHEAP = [
    {"region": "*", "amount_cents": 2000, "currency": "USD"},
    {"region": "BR", "amount_cents": 4900, "currency": "BRL"},
]
YEN = [{"region": "*", "amount_cents": 2000, "currency": "JPY"}]
DINAR = [{"region": "*", "amount_cents": 2000, "currency": "KWD"}]
JAPAN_TOO = [
    {"region": "*", "amount_cents": 3000, "currency": "USD"},
    {"region": "JP", "amount_cents": 1500, "currency": "JPY"},
]


@pytest_asyncio.fixture(loop_scope="module")
async def genre(shop: Shop, seller: Person) -> str:
    """A genre that only these games have."""
    name = f"g{uuid4().hex}"
    for title, prices in (("dollars", CHEAP), ("yen", YEN), ("dinar", DINAR), ("both", JAPAN_TOO)):
        await shop.game(seller, title=f"{name} {title}", genres=[name], prices=prices)
    return name


async def titles(
    shop: Shop, genre: str, who: Any = None, *, path: str = "/api/v1/games", **wanted: Any
) -> list[str]:
    client = who or shop.client()
    answer = await client.get(path, params={"genre": genre, **wanted}, headers=await shop.reached())
    assert answer.status_code == 200, answer.text
    return [game["title"].split()[1] for game in answer.json()["items"]]


@pytest.mark.parametrize("path", ["/api/v1/games", "/api/v1/games/search"])
async def test_prices_are_compared_in_one_currency(shop: Shop, genre: str, path: str) -> None:
    at_most: dict[str, Any] = {"price_max": 2500, "sort": "price", "path": path}
    assert await titles(shop, genre, currency="JPY", **at_most) == ["both", "yen"]
    assert await titles(shop, genre, currency="USD", **at_most) == ["dollars"]
    assert await titles(shop, genre, currency="KWD", **at_most) == ["dinar"]
    assert await titles(shop, genre, currency="EUR", **at_most) == []
    assert await titles(shop, genre, region="BR", **at_most) == []  # Brazil's price is in BRL
    assert await titles(shop, genre, region="BR", price_max=5000, path=path) == ["dollars"]
    assert await titles(shop, genre, region="BR", currency="USD", price_min=0, path=path) == [
        "both"
    ]
    assert await titles(shop, genre, region="JP", currency="JPY", **at_most) == ["both", "yen"]
    assert (await titles(shop, genre, sort="price", currency="USD", path=path))[:2] == [
        "dollars",
        "both",
    ]
    assert (await titles(shop, genre, sort="-price", currency="USD", path=path))[:2] == [
        "both",
        "dollars",
    ]


async def test_the_caller_sees_the_prices_of_where_they_live(shop: Shop, genre: str) -> None:
    brazilian = await shop.register(region="BR")
    for path in ("/api/v1/games", "/api/v1/games/search", "/api/v1/games/suggest"):
        wanted = {"genre": genre} if "suggest" not in path else {"q": genre}
        answer = await brazilian.get(path, params=wanted, headers=await shop.reached())
        prices = {game["title"].split()[1]: game["price"] for game in answer.json()["items"]}
        assert prices["dollars"] == {"amount_cents": 4900, "currency": "BRL"}, path
        assert prices["yen"] == {"amount_cents": 2000, "currency": "JPY"}, path
    assert await titles(shop, genre, brazilian, price_max=5000) == ["dollars"]

    moved = await brazilian.put(f"/api/v1/users/{brazilian.id}", json={"region": "JP"})
    assert moved.status_code == 200, moved.text
    answer = await brazilian.get(
        "/api/v1/games", params={"genre": genre}, headers=await shop.reached()
    )
    prices = {game["title"].split()[1]: game["price"] for game in answer.json()["items"]}
    assert prices["both"] == {"amount_cents": 1500, "currency": "JPY"}


async def test_facets_count_the_prices_in_the_currency(shop: Shop, genre: str) -> None:
    wanted = {"genre": genre, "currency": "JPY"}
    answer = await shop.client().get(
        "/api/v1/games/search", params=wanted, headers=await shop.reached()
    )
    prices = [(each["price_min"], each["count"]) for each in answer.json()["facets"]["price"]]
    assert prices == [(1000, 1), (2000, 1)]


async def test_every_view_shows_price_stock_and_images(
    shop: Shop, seller: Person, admin: Person
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "PNG")
    uploaded = await seller.post(
        "/api/v1/catalog/images", files={"file": ("x.png", file.getvalue(), "image/png")}
    )
    image_id = uploaded.json()["image_id"]
    title = f"t{uuid4().hex}"
    made = await shop.game(seller, title=title, kind="PHYSICAL", prices=CHEAP, image_ids=[image_id])
    stocked = await seller.put(
        "/api/v1/inventory/stock", json={"product_id": made["id"], "total_quantity": 7}
    )
    assert stocked.status_code == 200, stocked.text
    draft = await shop.game(
        seller, title=f"{title} draft", kind="PHYSICAL", prices=CHEAP, status="DRAFT"
    )

    reached = await shop.reached()
    views = {
        "by id": (await shop.client().get(f"/api/v1/games/{made['id']}", headers=reached)).json(),
        "edited": (
            await seller.put(f"/api/v1/games/{made['id']}", json={"description": "New."})
        ).json(),
    }
    for path in ("/api/v1/games", "/api/v1/games/search", "/api/v1/games/suggest"):
        params: dict[str, Any] = {"seller_id": str(seller.id), "limit": 200}
        if "search" in path or "suggest" in path:
            params = {"q": title}
        items = (await shop.client().get(path, params=params, headers=reached)).json()["items"]
        views[path] = next(game for game in items if game["id"] == made["id"])
    own = (
        await seller.get(
            f"/api/v1/catalog/products/by-seller/{seller.id}?limit=200", headers=reached
        )
    ).json()["items"]
    views["by seller"] = next(game for game in own if game["id"] == made["id"])
    for name, view in views.items():
        assert view["price"] == {"amount_cents": 2000, "currency": "USD"}, name
        assert view["available"] == 7, name
        (links,) = view["image_urls"]
        assert links["id"] == image_id, name
        for url in (links["url"], links["thumb_url"]):
            assert (await shop.client().get(url)).status_code == 200

    shown = next(game for game in own if game["id"] == draft["id"])
    assert (shown["available"], shown["price"]) == (None, {"amount_cents": 2000, "currency": "USD"})
    assert (made["available"], draft["available"], draft["image_urls"]) == (0, None, [])


async def test_who_has_a_game_is_not_sent_it_again_until_what_it_shows_changes(
    shop: Shop, seller: Person
) -> None:
    buyer = await shop.register("BUYER")
    games = [await shop.game(seller, kind=kind, prices=CHEAP) for kind in ("PHYSICAL", "DIGITAL")]
    paths = [f"/api/v1/games/{game['id']}" for game in games]

    async def seen(path: str, **headers: str) -> httpx.Response:
        answer = await buyer.get(path, headers={**await shop.reached(), **headers})
        assert "Authorization" in answer.headers["vary"]
        return answer

    known = {path: {"If-None-Match": (await seen(path)).headers["etag"]} for path in paths}
    for path in paths:
        assert (await seen(path, **known[path])).status_code == 304
        version = (await seen(path, **{"If-None-Match": '"1"'})).status_code
        assert version == 200, "a version does not tell all that is shown"

    stock = {"product_id": games[0]["id"], "total_quantity": 3}
    assert (await seller.put("/api/v1/inventory/stock", json=stock)).status_code == 200
    counted = [await seen(path, **known[path]) for path in paths]
    assert [answer.status_code for answer in counted] == [200, 304]
    assert counted[0].json()["available"] == 3

    assert (await buyer.put("/api/v1/users/me", json={"region": "BR"})).status_code == 200
    for path in paths:
        moved = await seen(path, **known[path])
        assert (moved.status_code, moved.json()["price"]["currency"]) == (200, "BRL")
        assert (await seen(path, **{"If-None-Match": moved.headers["etag"]})).status_code == 304


async def test_a_library_shows_what_a_game_costs_now(shop: Shop, seller: Person) -> None:
    buyer = await shop.register("BUYER")
    game = await shop.game(seller, prices=[{"region": "*", "amount_cents": 0, "currency": "USD"}])
    bought = await buyer.post("/api/v1/orders", json={"game_id": game["id"]})
    assert bought.json()["status"] == "COMPLETED", bought.text

    async def owned() -> list[dict[str, Any]]:
        items = (await buyer.get("/api/v1/library", headers=await shop.reached())).json()["items"]
        return list(items)

    (own,) = await shop.eventually(owned)
    assert (own["price"], own["available"], own["image_urls"]) == (
        {"amount_cents": 0, "currency": "USD"},
        None,
        [],
    )

    await seller.delete(f"/api/v1/games/{game['id']}")
    (own,) = await owned()
    assert own["available"] is None, "there is no end of a digital game, on sale or not"


@pytest.mark.parametrize("path", ["/api/v1/games", "/api/v1/games/search"])
@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"region": "UK"}, "invalid_region"),
        ({"region": "EU"}, "invalid_region"),
        ({"region": "br"}, "invalid_region"),
        ({"region": ""}, "invalid_region"),
        ({"currency": "usd"}, "invalid_currency"),
        ({"currency": "XXX"}, "invalid_currency"),
        ({"currency": "USD'--"}, "invalid_currency"),
    ],
)
async def test_a_region_or_currency_that_is_none_is_refused(
    shop: Shop, path: str, wanted: dict[str, str], code: str
) -> None:
    answer = await shop.client().get(path, params=wanted)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
