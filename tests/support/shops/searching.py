"""A shop whose search index is in Elasticsearch, and ways to disturb that index."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from elasticsearch import AsyncElasticsearch, Elasticsearch
from psycopg_pool import AsyncConnectionPool

from adapters.elasticsearch.client import open_async_client, open_client
from adapters.elasticsearch.documents import ElasticsearchDocuments, alias_name, index_name
from adapters.elasticsearch.search import (
    ElasticsearchGameIndex,
    check_elasticsearch,
    elasticsearch_circuit,
)
from eventstore.database.postgres import connect
from projections.engine import rebuild
from projections.engine.runner import Registered
from projections.search.postgres_store import PostgresDocuments
from projections.search.projection import GamesIndex, GamesText
from queries.engine.positions import ActiveSubscription
from queries.search.engines import Engine, SearchEngines
from queries.search.searching import GameSearch, SearchQuery, SearchResult
from tests.support.events.history import game_created, some_id
from tests.support.shops.projected import CODEC, Shop, open_shop, projecting

NAME = GamesIndex.name


@dataclass
class Searching:
    """The shop; `indexed` is the projection in Elasticsearch, and `client` always speaks to the
    real server."""

    shop: Shop
    engines: SearchEngines
    indexed: Registered
    client: Elasticsearch
    prefix: str
    titles: list[str] = field(default_factory=list)

    @property
    def index(self) -> str:
        return index_name(self.prefix, self.indexed.storage)

    @property
    def alias(self) -> str:
        return alias_name(self.prefix, self.indexed.storage)

    async def sells(self, *titles: str) -> None:
        for title in titles:
            await self.happened(title, game_created(title=title))
            self.titles.append(title)

    async def happened(self, title: str, *events: msgspec.Struct) -> int:
        """Append events to the game with this title."""
        return await self.shop.happened(some_id(title), *events)

    async def found(self) -> SearchResult:
        """All games, as of now."""
        reads = self.shop.models.reaching(await self.shop.log.head(), timeout=20)
        return (await self.engines.search(reads, SearchQuery(limit=200))).value

    async def answers(self) -> str:
        """The name of the engine that answers. Checks that it finds all games."""
        found = await self.found()
        titles = sorted(item.document.title for item in found.items)
        assert (titles, found.total) == (sorted(self.titles), len(self.titles)), found.engine
        return found.engine

    async def until_elasticsearch_answers(self, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while await self.answers() != "elasticsearch":  # noqa: ASYNC110 another thread's work
                await asyncio.sleep(0.02)

    async def indexing_is(self, *, whole: bool) -> bool:
        """Whether the index has caught up."""
        return await self.shop.models.waiter.wait(
            [NAME], await self.shop.log.head(), 20 if whole else 0.5
        )

    async def is_proven(self) -> None:
        """Check that the index has caught up and equals a replay, and that nothing is in
        quarantine."""
        assert await self.indexing_is(whole=True)
        verified = await asyncio.to_thread(self._verify)
        assert (verified.difference.equal, verified.quarantined) == (True, 0), verified

    def _verify(self) -> rebuild.Verified:
        with connect(self.shop.url, "verify") as conn:
            return rebuild.verify(conn, CODEC, self.indexed, lambda _done, _all: None)


@asynccontextmanager
async def open_searching(
    database: str, url: str, real_url: str, prefix: str
) -> AsyncIterator[Searching]:
    """Open the shop. The documents in PostgreSQL are projected; the index in Elasticsearch, at
    `url`, is not yet."""
    prefix = f"{prefix}shop"
    with open_client(url, seconds=10) as writer, Elasticsearch(real_url) as client:
        async with open_shop(database) as shop, open_async_client(url, seconds=2) as reader:
            indexed = Registered(GamesIndex(), ElasticsearchDocuments(writer, prefix))
            engines = _engines(shop.log.pool, prefix, reader)
            async with projecting(database, [Registered(GamesText(), PostgresDocuments())]):
                yield Searching(shop, engines, indexed, client, prefix)


def _engines(pool: AsyncConnectionPool, prefix: str, client: AsyncElasticsearch) -> SearchEngines:
    circuit = elasticsearch_circuit()

    def first(subscription: ActiveSubscription) -> GameSearch:
        return GameSearch(
            ElasticsearchGameIndex(client, alias_name(prefix, subscription.storage), circuit)
        )

    return SearchEngines(pool, Engine(NAME, first, lambda: check_elasticsearch(client, circuit)))
