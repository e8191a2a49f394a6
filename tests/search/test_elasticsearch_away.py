"""A search whose Elasticsearch is down says so, and at once if it stays down."""

import asyncio

import pytest
from elasticsearch import AsyncElasticsearch

from adapters.elasticsearch.search import ElasticsearchGameIndex, elasticsearch_circuit
from kit import circuit
from queries.search.port import Lookup, SearchOrder, SearchUnavailable
from tests.support.shops.search import SHOP

GAMES = [SHOP[0].game_id]


async def test_a_hanging_elasticsearch_is_left_alone_after_a_few_failures_and_tried_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await writer.wait_closed()

    monkeypatch.setattr(circuit, "OPEN_SECONDS", 0.2)
    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    shared = elasticsearch_circuit()
    async with (
        server,
        AsyncElasticsearch(
            f"http://127.0.0.1:{port}", request_timeout=0.05, max_retries=0
        ) as client,
    ):

        async def fetch() -> None:
            # a new one for each request, as the gateway does
            index = ElasticsearchGameIndex(client, "games", shared)
            with pytest.raises(SearchUnavailable):
                await index.fetch(GAMES)

        for _ in range(10):
            await fetch()
        assert asked == circuit.FAILURES_TO_OPEN

        async with asyncio.timeout(5):
            while asked == circuit.FAILURES_TO_OPEN:
                await fetch()


async def test_an_index_that_is_not_there_yet_does_not_open_the_circuit(
    elasticsearch_url: str, elasticsearch_prefix: str
) -> None:
    shared = elasticsearch_circuit()
    async with AsyncElasticsearch(elasticsearch_url) as client:
        index = ElasticsearchGameIndex(client, f"{elasticsearch_prefix}none", shared)
        for _ in range(circuit.FAILURES_TO_OPEN + 1):
            with pytest.raises(SearchUnavailable, match="index_not_found"):
                await index.listing(Lookup(), SearchOrder("text"), 1)
