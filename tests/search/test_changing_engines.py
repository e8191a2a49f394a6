"""One engine continues where the other stopped: when one of them goes away or comes back while
somebody turns pages."""

from collections.abc import AsyncIterator
from itertools import cycle

import pytest
from elasticsearch import AsyncElasticsearch
from msgspec import structs
from psycopg_pool import AsyncConnectionPool

from adapters.elasticsearch.search import ElasticsearchGameIndex
from queries.search.port import Sort
from queries.search.postgres import PostgresGameIndex
from queries.search.searching import GameSearch, InvalidCursor, SearchQuery


@pytest.fixture
async def engines(
    postgres_indices: str, elasticsearch_url: str, elasticsearch_indices: str
) -> AsyncIterator[tuple[GameSearch, GameSearch]]:
    """The same small shop in both."""
    async with (
        AsyncConnectionPool(
            postgres_indices, min_size=1, max_size=4, kwargs={"autocommit": True}
        ) as pool,
        AsyncElasticsearch(elasticsearch_url) as client,
    ):
        yield (
            GameSearch(ElasticsearchGameIndex(client, f"{elasticsearch_indices}shop")),
            GameSearch(PostgresGameIndex(pool, lambda: "shop")),
        )


@pytest.mark.parametrize(
    ("q", "sort"),
    [("", "price"), ("portal", "title"), ("witcher", "relevance"), ("finl fantsy", "release_date")],
)
async def test_pages_by_turns_show_what_one_engine_alone_shows(
    engines: tuple[GameSearch, GameSearch], q: str, sort: Sort
) -> None:
    alone = await engines[1].search(SearchQuery(q=q, sort=sort, limit=200))
    size = alone.total // 5 + 1
    shown, cursor = [], None
    for engine in cycle(engines):
        page = await engine.search(SearchQuery(q=q, sort=sort, limit=size, cursor=cursor))
        assert (page.total, page.facets) == (alone.total, alone.facets)
        shown += [item.document.title for item in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert shown == [item.document.title for item in alone.items]


async def test_where_so_many_match_alike_that_the_other_ranks_otherwise_it_refuses_the_cursor(
    engines: tuple[GameSearch, GameSearch],
) -> None:
    began, other = engines
    query = SearchQuery(q="train simulator route", limit=10)
    second = structs.replace(query, cursor=(await began.search(query)).next_cursor)
    assert len((await began.search(second)).items) == 10
    with pytest.raises(InvalidCursor):
        await other.search(second)
