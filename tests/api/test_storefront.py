"""Which games sell best, and which are reduced."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from kit.clock import ManualClock
from tests.support.shops.gateway import CARD, Person, Shop, another_process, open_shop

DAY = timedelta(days=1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clock() -> ManualClock:
    return ManualClock(datetime.now(UTC))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shop(
    module_database: str, tmp_path_factory: pytest.TempPathFactory, clock: ManualClock
) -> AsyncIterator[Shop]:
    """A shop by a clock that is moved by hand."""
    home = tmp_path_factory.mktemp("shop")
    async with open_shop(module_database, home, clock=clock) as shop:
        yield shop


async def buy(buyer: Person, game: dict[str, Any]) -> None:
    answer = await buyer.post(
        "/api/v1/orders",
        json={"game_id": game["id"], "payment_method": {"type": "card", "token": CARD}},
    )
    assert answer.status_code == 201, answer.text


async def listed(shop: Shop, path: str, **query: str) -> list[dict[str, Any]]:
    answer = await shop.client().get(
        f"/api/v1/games{path}", params=query, headers=await shop.reached()
    )
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def prices(**by_region: int) -> list[dict[str, Any]]:
    """Prices in dollars; `everywhere` is for regions without one of their own."""
    return [
        {
            "region": "*" if region == "everywhere" else region,
            "amount_cents": cents,
            "currency": "USD",
        }
        for region, cents in by_region.items()
    ]


async def test_the_games_that_were_sold_most_often_come_first(shop: Shop, seller: Person) -> None:
    never, once, twice = [await shop.game(seller) for _ in range(3)]
    ann, bob = await shop.register(), await shop.register()
    for buyer, game in ((ann, once), (ann, twice), (bob, twice)):
        await buy(buyer, game)

    async def ids() -> list[str]:
        return [game["id"] for game in await listed(shop, "/best-selling")]

    assert await shop.eventually(ids, lambda ids: ids == [twice["id"], once["id"]])
    first = (await shop.client().get("/api/v1/games/best-selling?limit=1")).json()
    assert [game["id"] for game in first["items"]] == [twice["id"]]
    rest = await listed(shop, "/best-selling", cursor=first["next_cursor"])
    assert [game["id"] for game in rest] == [once["id"]]

    await seller.delete(f"/api/v1/games/{twice['id']}")
    assert await ids() == [once["id"]]
    assert never["id"] not in await ids()


async def test_a_lowered_price_is_shown_with_the_lowest_of_30_days_before_it(
    shop: Shop, clock: ManualClock
) -> None:
    seller = await shop.register("SELLER")
    game = await shop.game(
        seller, title="Reduced", prices=prices(everywhere=3000, DE=2500, BR=1000)
    )
    one, search = f"/api/v1/games/{game['id']}", "/api/v1/games/search?q=Reduced"
    clock.advance(2 * DAY)
    seller = await relogged(shop, seller)
    lower = {"prices": prices(everywhere=2000, DE=2500, BR=900)}
    assert (await seller.put(one, json=lower)).status_code == 200

    async with another_process(shop) as other:
        for process in (shop, other):  # a process that did not make the change
            (found,) = await listed(process, "/reduced")
            assert (found["price"]["amount_cents"], found["reduced_from_cents"]) == (2000, 3000)
            assert await listed(process, "/reduced", region="DE") == []
            (there,) = await listed(process, "/reduced", region="BR")
            assert there["reduced_from_cents"] == 1000
    for path in (one, search):
        answer = (await shop.client().get(path, headers=await shop.reached())).json()
        assert answer.get("items", [answer])[0]["reduced_from_cents"] == 3000
    assert (await listed(shop, "", seller_id=str(seller.id)))[0]["reduced_from_cents"] == 3000

    clock.advance(31 * DAY)  # no event says that it is over
    assert await listed(shop, "/reduced") == []
    for path in (one, search):
        answer = (await shop.client().get(path, headers=await shop.reached())).json()
        assert answer.get("items", [answer])[0]["reduced_from_cents"] is None


async def relogged(shop: Shop, person: Person) -> Person:
    """The same person with a token that has not expired."""
    login = {"email": person.email, "password": "correct horse battery"}
    tokens = (await shop.client().post("/api/v1/auth/login", json=login)).json()
    return Person(person.id, person.email, tokens, shop.client(tokens["access_token"]))


@pytest.mark.parametrize("path", ["best-selling", "reduced"])
async def test_a_cursor_of_another_list_is_refused(shop: Shop, path: str) -> None:
    answer = await shop.client().get(f"/api/v1/games/{path}?cursor=nonsense")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")
