"""Elasticsearch and RabbitMQ freeze: no HTTP request waits for them for long."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import monotonic

import httpx
import pytest

from runtime.gateway.app import open_app
from tests.search.test_elasticsearch_stopped import indexing
from tests.support.servers.faulty_proxy import Proxy
from tests.support.shops.gateway import Person, Shop, open_shop

BOUND = 2.0
"""Seconds: one is promised, on a machine without other load."""


AWAY = {"elasticsearch": "down", "rabbitmq": "down"}


@pytest.fixture
async def shop(
    database: str,
    tmp_path: Path,
    elasticsearch_url: str,
    elasticsearch_prefix: str,
    rabbitmq_url: str,
) -> AsyncIterator[tuple[Shop, Proxy, Proxy]]:
    with Proxy(elasticsearch_url) as elasticsearch, Proxy(rabbitmq_url) as rabbitmq:
        urls = {"elasticsearch_url": elasticsearch.url, "rabbitmq_url": rabbitmq.url}
        async with (
            open_shop(database, tmp_path, **urls, rate_limit="off") as shop,
            open_app(shop.core, shop.queues) as shop.app,
            indexing(shop),
        ):
            yield shop, elasticsearch, rabbitmq


async def test_nobody_waits_for_them(shop: tuple[Shop, Proxy, Proxy]) -> None:
    opened, elasticsearch, rabbitmq = shop
    admin, buyer = await opened.register("ADMIN"), await opened.register()
    game = await opened.game(admin, title="Zanzibar")
    await _until(lambda: _found(buyer))
    await _until(lambda: _dead_letters(admin))
    elasticsearch.freeze()
    rabbitmq.freeze()
    worst: dict[str, float] = {}
    for _ in range(4):  # before the outage is known, and after
        asked = {
            "search": buyer.get("/api/v1/games/search?q=zanzibar"),
            "suggest": buyer.get("/api/v1/games/suggest?q=zanz"),
            "library": buyer.get("/api/v1/library?q=zanz"),
            "game": buyer.get(f"/api/v1/games/{game['id']}"),
            "cart": buyer.get("/api/v1/cart"),
            "dead letters": admin.get("/api/v1/ops/dead-letters"),
            "ready": opened.client().get("/health/ready"),
            "metrics": opened.client().get("/metrics"),
        }
        for name, asking in asked.items():
            start = monotonic()
            answer: httpx.Response = await asking
            worst[name] = max(worst.get(name, 0.0), monotonic() - start)
            if name == "ready":
                states = {
                    each: one["status"] for each, one in answer.json()["dependencies"].items()
                }
                expected = {
                    "database": "ok",
                    "writer": "ok",
                    "clock": "ok",
                    "elasticsearch": "down",
                    "rabbitmq": "down",
                }
                assert states == expected
            else:
                assert answer.status_code == (503 if name == "dead letters" else 200), answer.text
    print({name: round(seconds, 2) for name, seconds in worst.items()})
    assert max(worst.values()) < BOUND, worst
    elasticsearch.heal()
    rabbitmq.heal()
    await _until(lambda: _dead_letters(admin))


async def _until(look: Callable[[], Awaitable[bool]]) -> None:
    """Poll: an index that is filled, or a broker that is back, is no event in the log."""
    async with asyncio.timeout(20):
        while not await look():  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(0.1)


async def _found(buyer: Person) -> bool:
    answer = await buyer.get("/api/v1/games/search?q=zanzibar")
    return bool(answer.json()["items"] and answer.json()["engine"] == "elasticsearch")


async def _dead_letters(admin: Person) -> bool:
    answer = await admin.get("/api/v1/ops/dead-letters")
    return bool(answer.status_code == 200)
