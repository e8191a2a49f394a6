"""Both engines, filled: a small shop of well-known games, and the real catalogue."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import psycopg
import pytest
from elasticsearch import AsyncElasticsearch, Elasticsearch
from psycopg_pool import AsyncConnectionPool

from adapters.elasticsearch.search import ElasticsearchGameIndex
from adapters.elasticsearch.store import ElasticsearchGameStore
from projections.search import postgres_index
from projections.search.document import GameDocument
from queries.search.postgres import PostgresGameIndex
from queries.search.searching import GameSearch
from tests.support.servers import shared
from tests.support.shops.search import SHOP
from tests.support.typed_queries import CATALOGUE, catalogue

ENGINES = ["postgres", "elasticsearch"]


@pytest.fixture(scope="session")
def postgres_indices(postgres_url: str) -> Iterator[str]:
    """A database with the small shop in the tables `shop`."""
    url = shared.create_database(postgres_url, template="template1")
    _load_tables(url, "shop", SHOP)
    yield url
    shared.drop_database(url)


@pytest.fixture(scope="session")
def postgres_catalogue(postgres_indices: str, real_titles: list[GameDocument]) -> str:
    """The same database, with the real catalogue in the tables `catalogue`."""
    _load_tables(postgres_indices, "catalogue", real_titles)
    return postgres_indices


@pytest.fixture(scope="session")
def elasticsearch_indices(elasticsearch_url: str) -> Iterator[str]:
    """The prefix of this process' indices; `shop` is one."""
    prefix = f"test-{uuid4().hex}-"
    _load_index(elasticsearch_url, f"{prefix}shop", SHOP)
    yield prefix
    shared.drop_indices(elasticsearch_url, prefix)


@pytest.fixture(scope="session")
def elasticsearch_catalogue(
    elasticsearch_url: str, elasticsearch_indices: str, real_titles: list[GameDocument]
) -> str:
    """The same prefix; `catalogue` is an index, too."""
    _load_index(elasticsearch_url, f"{elasticsearch_indices}catalogue", real_titles)
    return elasticsearch_indices


@pytest.fixture(scope="session")
def real_titles() -> list[GameDocument]:
    """The real catalogue. Skips the test without it."""
    if not CATALOGUE.exists():
        pytest.skip(f"the catalogue of real titles is not at {CATALOGUE}")
    return catalogue()


@pytest.fixture(params=ENGINES)
async def search(request: pytest.FixtureRequest) -> AsyncIterator[GameSearch]:
    """A search in the small shop."""
    async for found in _searching(request, "indices", "shop"):
        yield found


@pytest.fixture(params=ENGINES)
async def real_search(request: pytest.FixtureRequest) -> AsyncIterator[GameSearch]:
    """A search in the real catalogue."""
    async for found in _searching(request, "catalogue", "catalogue"):
        yield found


async def _searching(
    request: pytest.FixtureRequest, filled: str, name: str
) -> AsyncIterator[GameSearch]:
    where = request.getfixturevalue(f"{request.param}_{filled}")
    if request.param == "postgres":
        async with AsyncConnectionPool(
            where, min_size=1, max_size=4, kwargs={"autocommit": True}
        ) as pool:
            yield GameSearch(PostgresGameIndex(pool, lambda: name))
    else:
        async with AsyncElasticsearch(request.getfixturevalue("elasticsearch_url")) as client:
            yield GameSearch(ElasticsearchGameIndex(client, where + name))


def _load_tables(url: str, table: str, documents: list[GameDocument]) -> None:
    with psycopg.connect(url) as connection:
        postgres_index.create_tables(connection, table)
        postgres_index.bulk_load(connection, table, documents)
        postgres_index.create_indexes(connection, table)


def _load_index(url: str, index: str, documents: list[GameDocument]) -> None:
    with Elasticsearch(url) as client:
        store = ElasticsearchGameStore(client)
        store.create_index(index)
        store.bulk(index, documents)
        store.refresh(index)
