"""Whatever Elasticsearch answers, or fails to answer, searches are answered, by PostgreSQL if
necessary, and the answer names the engine.

The odd answers come from a double (`odd_elasticsearch`), a small HTTP server in front of the real
one, to which it passes everything else on.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from adapters.elasticsearch import client
from domain.ids import library_id
from domain.library import LibraryGameAdded
from domain.times import EARLIEST
from eventstore.log import StreamAppend
from kit import circuit
from projections.engine import lanes
from queries.search.searching import SearchQuery
from runtime.gateway.app import open_app
from runtime.wiring import search
from tests.search.test_elasticsearch_stopped import indexing
from tests.support.servers.odd_elasticsearch import (
    Odd,
    OddElasticsearch,
    breaks_off,
    dribbles,
    hangs,
    hangs_up,
    never_ends,
    refuses,
    says,
)
from tests.support.shops.gateway import Person, Shop, open_shop

READY, DEGRADED = (200, "ok", "ok"), (200, "degraded", "down")
HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"
HITS = {"total": {"value": 1, "relation": "eq"}, "max_score": 1.0}
A_HIT = {"_id": str(UUID(int=1)), "_index": "x", "_score": 1.0}

ODD: dict[str, Odd] = {
    "401": refuses(401, "security_exception"),
    "403": refuses(403, "security_exception"),
    "403, blocked": refuses(403, "cluster_block_exception"),
    "404 of Elasticsearch": refuses(404, "resource_not_found_exception"),
    "404 of a proxy": says(404, "default backend - 404", "text/plain"),
    "400": refuses(400, "illegal_argument_exception"),
    "400, index closed": refuses(400, "index_closed_exception"),
    "400 of a proxy": says(400, "The plain HTTP request was sent to HTTPS port", "text/html"),
    "405": says(405, ""),
    "408": says(408, ""),
    "413": says(413, "<html>", "text/html"),
    "429": refuses(429, "circuit_breaking_exception"),
    "429, full disk": refuses(429, "cluster_block_exception"),
    "500": refuses(500, "null_pointer_exception"),
    "502 in HTML": says(502, HTML, "text/html"),
    "503": refuses(503, "no_shard_available_action_exception"),
    "504, empty": says(504, ""),
    "200, empty": says(200, ""),
    "200, no content type": says(200, "", "application/octet-stream"),
    "200 in HTML": says(200, HTML, "text/html"),
    "200, HTML called JSON": says(200, HTML),
    "200, half of a JSON": says(200, '{"hits": {"hits": ['),
    "200, an empty object": says(200, {}),
    "200, a list": says(200, []),
    "200, null": says(200, "null"),
    "200, of another product": says(200, {"name": "solr", "responseHeader": {"status": 0}}),
    "200, hits without documents": says(
        200, {"hits": {**HITS, "hits": [A_HIT]}, "aggregations": {}}
    ),
    "200, hits that are none": says(200, {"hits": {"hits": 7}, "docs": 7, "items": 7}),
    "200, an error": says(200, {"error": {"type": "x", "reason": "y"}, "status": 500}),
    "200, nested too deep": says(200, "[" * 100_000),
    "204": says(204),
    "301": says(301, "", Location="http://127.0.0.1:1/"),
    "302 in a circle": says(302, "", Location="/"),
    "307 to the same": says(307, "", Location="/_search"),
    "hangs up": hangs_up,
    "breaks off": breaks_off,
    "hangs": hangs,
    "dribbles": dribbles,
    "never ends": never_ends,
}


@pytest.fixture
def odd_elasticsearch(elasticsearch_url: str) -> Iterator[OddElasticsearch]:
    server = OddElasticsearch(elasticsearch_url)
    yield server
    server.close()


@pytest.fixture
async def shop(
    database: str,
    tmp_path: Path,
    odd_elasticsearch: OddElasticsearch,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Shop]:
    """A shop whose circuit for Elasticsearch never opens, so that each request meets the odd
    answer."""
    monkeypatch.setattr(circuit, "FAILURES_TO_OPEN", 10_000)
    monkeypatch.setattr(search, "SEARCH_SECONDS", 0.5)
    monkeypatch.setattr(client, "MAX_ANSWER", 2**20)
    monkeypatch.setattr(lanes, "BACKOFF_SECONDS", (0.1, 0.2))
    async with (
        open_shop(
            database, tmp_path, elasticsearch_url=odd_elasticsearch.url, rate_limit="off"
        ) as shop,
        open_app(shop.core, shop.queues) as shop.app,
        indexing(shop),
    ):
        yield shop


class Reader:
    """Every kind of search, by one person."""

    def __init__(self, shop: Shop, buyer: Person) -> None:
        self._shop = shop
        self._buyer = buyer

    async def finds(self) -> dict[str, Any]:
        """The results of each kind of search, after everything so far."""
        search = await self._ask(
            "games/search?q=zanzibar&genre=platformer&price_max=9999&currency=USD&limit=1"
        )
        listed = await self._ask("games/search?q=zanzibar&sort=title&limit=1")
        return {
            "engine": search["engine"],
            "listed by": listed["engine"],
            "found": [each["title"] for each in (*search["items"], *listed["items"])],
            "counted": search["facets"]["genre"],
            "suggested": [
                each["title"] for each in (await self._ask("games/suggest?q=zanz"))["items"]
            ],
            "in the library": [
                each["title"] for each in (await self._ask("library?q=zanzibar"))["items"]
            ],
        }

    async def readiness(self) -> tuple[int, str, str]:
        answer = await self._shop.client().get("/health/ready")
        said = answer.json()
        return answer.status_code, said["status"], said["dependencies"]["elasticsearch"]["status"]

    async def _ask(self, path: str) -> Any:
        answer = await self._buyer.get(f"/api/v1/{path}", headers=await self._shop.reached())
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()


def found_by(engine_name: str) -> dict[str, Any]:
    return {
        "engine": engine_name,
        "listed by": engine_name,
        "found": ["Zanzibar"] * 2,
        "counted": [{"value": "Platformer", "count": 1}],
        "suggested": ["Zanzibar"],
        "in the library": ["Zanzibar"],
    }


async def open_reader(shop: Shop) -> Reader:
    """A reader in a shop with a game, which they own."""
    seller, buyer = await shop.register("SELLER"), await shop.register()
    game = await shop.game(seller, title="Zanzibar")
    owned = LibraryGameAdded(buyer.id, UUID(game["id"]), uuid4(), "Zanzibar", EARLIEST)
    await shop.core.log.append([StreamAppend(library_id(buyer.id), 0, [owned])])
    return Reader(shop, buyer)


async def until_elasticsearch_answers(reader: Reader) -> None:
    async with asyncio.timeout(20):
        while (  # noqa: ASYNC110 another thread's
            await reader.finds() != found_by("elasticsearch") or await reader.readiness() != READY
        ):
            await asyncio.sleep(0.02)


async def test_a_question_that_is_too_much_for_it_is_answered_by_postgresql_and_no_other(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A library with more games than Elasticsearch accepts terms (65,536), on the real server."""
    monkeypatch.setattr(circuit, "FAILURES_TO_OPEN", 3)
    reader = await open_reader(shop)
    await until_elasticsearch_answers(reader)
    given = shop.app.state.services
    many = SearchQuery(q="zanzibar", game_ids=[uuid4() for _ in range(70_000)])
    for _ in range(4):
        assert (await given.search.search(given.reads, many)).value.engine == "postgres"
        assert (
            await given.search.search(given.reads, SearchQuery(q="zanzibar"))
        ).value.engine == "elasticsearch"


async def test_whatever_it_answers_postgresql_answers_instead_and_that_is_said(
    shop: Shop, odd_elasticsearch: OddElasticsearch
) -> None:
    reader = await open_reader(shop)
    wrong: dict[str, object] = {}
    for name, odd in ODD.items():
        await until_elasticsearch_answers(reader)
        odd_elasticsearch.answers(odd)
        try:
            found, said = await reader.finds(), await reader.readiness()
        except Exception as error:
            wrong[name] = repr(error)
        else:
            if (found, said) != (found_by("postgres"), DEGRADED) or not odd_elasticsearch.odd:
                wrong[name] = (found, said, odd_elasticsearch.odd)
        odd_elasticsearch.passes_on()
    await until_elasticsearch_answers(reader)
    assert wrong == {}
    assert await shop.services.operations.quarantine() == []
