"""A whole shop whose Elasticsearch, a real one of its own, is not up yet, then up, then hangs, then
is stopped."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kit import circuit
from projections.engine import lanes
from projections.engine.runner import Runner
from runtime.gateway.app import open_app
from runtime.wiring.codec import codec
from runtime.wiring.search import search_models
from tests.support.servers.shared import OwnElasticsearch
from tests.support.shops.gateway import Person, Shop, a_game, open_shop

pytestmark = pytest.mark.soak


@pytest.fixture
def elasticsearch() -> Iterator[OwnElasticsearch]:
    server = OwnElasticsearch()
    yield server
    server.remove()


@pytest.fixture
async def shop(
    database: str, tmp_path: Path, elasticsearch: OwnElasticsearch, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shop]:
    """A shop that checks often whether its Elasticsearch is back."""
    monkeypatch.setattr(circuit, "OPEN_SECONDS", 0.2)
    monkeypatch.setattr(lanes, "BACKOFF_SECONDS", (0.1, 0.2))
    async with (
        open_shop(
            database, tmp_path, elasticsearch_url=elasticsearch.url, rate_limit="off"
        ) as shop,
        open_app(shop.core, shop.queues) as shop.app,
        indexing(shop),
    ):
        yield shop


@asynccontextmanager
async def indexing(shop: Shop) -> AsyncIterator[None]:
    """The projector of the index in Elasticsearch."""
    runner = Runner(shop.core.url, codec(), search_models(shop.core.settings))
    thread = threading.Thread(target=runner.run, name="indexer")
    thread.start()
    try:
        yield
    finally:
        runner.stop()
        await asyncio.to_thread(thread.join)


class Seller:
    """Sells one game, and checks what the shop shows of it."""

    def __init__(self, shop: Shop, person: Person, game_id: str) -> None:
        self._shop = shop
        self._person = person
        self._path = f"/api/v1/games/{game_id}"

    async def sets(self, cents: int) -> None:
        body = {"prices": [{"region": "*", "amount_cents": cents, "currency": "USD"}]}
        answer = await self._person.put(self._path, json=body)
        assert answer.is_success, answer.text

    async def finds(self) -> tuple[str, int]:
        """The engine that answers, and the current price."""
        found = await self._ask("/api/v1/games/search?q=zanzibar")
        return found["engine"], found["items"][0]["price"]["amount_cents"]

    async def is_answered_by(self, name: str, cents: int) -> None:
        """Wait until this engine answers. Whichever answers meanwhile knows the price."""
        async with asyncio.timeout(100):
            while (found := await self.finds()) != (name, cents):
                assert found[1] == cents
                await asyncio.sleep(0.05)

    async def browses(self) -> int:
        return int((await self._ask("/api/v1/games"))["items"][0]["prices"][0]["amount_cents"])

    async def suggestions(self) -> list[str]:
        return [
            each["title"] for each in (await self._ask("/api/v1/games/suggest?q=zanz"))["items"]
        ]

    async def sees_readiness(self, status: str, of_elasticsearch: str) -> None:
        """Wait until the shop, which is ready all the time, reports this."""
        wanted = (200, status, of_elasticsearch)
        async with asyncio.timeout(100):
            while (await self._readiness()) != wanted:  # noqa: ASYNC110 another process is waited for
                await asyncio.sleep(0.05)

    async def _readiness(self) -> tuple[int, str, str]:
        answer = await self._shop.client().get("/health/ready")
        return (
            answer.status_code,
            answer.json()["status"],
            answer.json()["dependencies"]["elasticsearch"]["status"],
        )

    async def _ask(self, path: str) -> Any:
        answer = await self._shop.client().get(path, headers=await self._shop.reached())
        assert answer.status_code == 200, answer.text
        return answer.json()


async def test_search_goes_on_in_postgresql_while_elasticsearch_is_away_and_returns_to_it_by_itself(
    shop: Shop, elasticsearch: OwnElasticsearch
) -> None:
    person = await shop.register("SELLER")
    game = await person.post("/api/v1/games", json=a_game(title="Zanzibar Chronicles"))
    seller = Seller(shop, person, game.json()["id"])

    # It is starting: the index is made and filled when it is up.
    await asyncio.to_thread(elasticsearch.wait)
    await seller.is_answered_by("elasticsearch", 1999)
    await seller.sees_readiness("ok", "ok")

    # It hangs, and misses a change.
    elasticsearch.hang()
    await seller.sets(500)
    assert await seller.finds() == ("postgres", 500)
    assert await seller.browses() == 500
    elasticsearch.go_on()
    await seller.is_answered_by("elasticsearch", 500)

    # It is stopped for good.
    elasticsearch.stop()
    assert await seller.finds() == ("postgres", 500)
    await seller.sets(700)
    assert await seller.finds() == ("postgres", 700)
    assert await seller.browses() == 700
    assert await seller.suggestions() == ["Zanzibar Chronicles"]
    await seller.sees_readiness("degraded", "down")
    (index,) = [
        each
        for each in await shop.services.operations.subscriptions()
        if each.projection == "games_index"
    ]
    assert index.lag is not None
    assert index.lag > 0
