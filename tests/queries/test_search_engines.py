"""Which engine answers a search: Elasticsearch while it is up and as current as PostgreSQL, else
PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import pytest
from msgspec import structs

from domain.catalog import GameUpdated, Price
from projections.engine.runner import Registered
from projections.search.postgres_store import PostgresDocuments
from projections.search.projection import GamesIndex, GamesText
from queries.engine.positions import ActiveSubscription
from queries.search import engines as search_engines
from queries.search.engines import Engine, SearchEngines
from queries.search.port import Found, Lookup, SearchUnavailable
from queries.search.postgres import PostgresGameIndex
from queries.search.searching import GameSearch, SearchQuery, SearchResult
from tests.support.events.history import BUYER, GAME, game_created, registered, some_id
from tests.support.shops.projected import Shop, open_shop, projecting


class StandIn(PostgresGameIndex):
    """Stands in for Elasticsearch: an index of its own, which may be away."""

    name: Literal["elasticsearch", "postgres"] = "elasticsearch"
    away = False

    async def find(self, lookup: Lookup) -> Found:
        await check()
        return await super().find(lookup)


async def check() -> None:
    if StandIn.away:
        raise SearchUnavailable("connection refused")


@dataclass
class Searching:
    """A shop, its search, and control over when events are projected."""

    shop: Shop
    engines: SearchEngines

    async def price_is(self, cents: int) -> int:
        return await self.shop.happened(GAME, GameUpdated(prices=(Price("*", cents, "USD"),)))

    async def found(self) -> tuple[str, int]:
        """The engine that answers, and the game's price, as of all events so far."""
        at_least = await self.shop.log.head()
        answer = await self.engines.search(
            self.shop.models.reaching(at_least, timeout=20), SearchQuery(q="holow")
        )
        assert answer.position >= at_least
        return said(answer.value)


def said(result: SearchResult) -> tuple[str, int]:
    (item,) = result.items
    assert item.price is not None
    return result.engine, item.price.amount_cents


@pytest.fixture
async def searching(database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Searching]:
    """The documents in PostgreSQL are projected; the other index is not, and is not waited for."""
    monkeypatch.setattr(StandIn, "away", False)
    monkeypatch.setattr(search_engines, "SEARCH_TIMEOUT_SECONDS", 0.0)
    async with (
        open_shop(database) as shop,
        projecting(database, [Registered(GamesText(), PostgresDocuments())]),
    ):

        def first(subscription: ActiveSubscription) -> GameSearch:
            return GameSearch(StandIn(shop.log.pool, lambda: subscription.storage))

        await shop.happened(GAME, game_created(prices=(Price("*", 100, "USD"),)))
        yield Searching(
            shop,
            SearchEngines(shop.log.pool, Engine(GamesIndex.name, first, check)),
        )


@asynccontextmanager
async def indexing(shop: Shop) -> AsyncIterator[None]:
    """Keep the first engine's index up to date during the block."""
    async with projecting(shop.url, [Registered(GamesIndex(), PostgresDocuments())]):
        assert await shop.models.waiter.wait([GamesIndex.name], await shop.log.head(), 20)
        yield
        assert await shop.models.waiter.wait([GamesIndex.name], await shop.log.head(), 20)


async def test_postgresql_answers_until_the_index_was_filled_for_the_first_time(
    searching: Searching,
) -> None:
    assert await searching.found() == ("postgres", 100)
    async with indexing(searching.shop):
        assert await searching.found() == ("elasticsearch", 100)


async def test_while_the_first_engine_is_away_postgresql_answers_and_suggests(
    searching: Searching,
) -> None:
    async with indexing(searching.shop):
        StandIn.away = True
        assert await searching.found() == ("postgres", 100)
        titles = await searching.engines.suggest(searching.shop.models, "holl")
        assert [title.title for title in titles.value] == ["Hollow Knight"]
        StandIn.away = False
        assert await searching.found() == ("elasticsearch", 100)


async def test_an_index_without_the_last_price_is_not_asked_until_it_has_it(
    searching: Searching,
) -> None:
    async with indexing(searching.shop):
        pass
    await searching.price_is(200)
    assert await searching.found() == ("postgres", 200)
    async with indexing(searching.shop):
        assert await searching.found() == ("elasticsearch", 200)


async def test_an_index_that_lacks_only_what_is_no_change_of_a_game_is_asked(
    searching: Searching,
) -> None:
    async with indexing(searching.shop):
        pass
    await searching.shop.happened(BUYER, registered())
    assert await searching.found() == ("elasticsearch", 100)


async def test_an_index_that_is_just_about_to_have_a_change_is_waited_for(
    searching: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_engines, "SEARCH_TIMEOUT_SECONDS", 20.0)
    async with indexing(searching.shop):
        pass
    await searching.price_is(300)
    search = asyncio.create_task(searching.found())
    async with indexing(searching.shop):
        assert await search == ("elasticsearch", 300)


async def test_who_turns_pages_of_postgresql_stays_there_when_the_first_engine_is_back(
    searching: Searching,
) -> None:
    shop, query = searching.shop, SearchQuery(q="knight", limit=1)
    await shop.happened(some_id("other"), game_created(title="Knight's Tale"))
    async with indexing(shop):
        StandIn.away = True
        began = (await searching.engines.search(await shop.projected(), query)).value
        StandIn.away = False
        assert (await searching.engines.search(shop.models, query)).value.engine == "elasticsearch"
        second = structs.replace(query, cursor=began.next_cursor)
        went_on = (await searching.engines.search(shop.models, second)).value
    assert [began.engine, went_on.engine] == ["postgres", "postgres"]
    titles = {item.document.title for item in [*began.items, *went_on.items]}
    assert titles == {"Hollow Knight", "Knight's Tale"}


async def test_an_index_that_is_away_is_not_waited_for(
    searching: Searching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_engines, "SEARCH_TIMEOUT_SECONDS", 1000.0)
    StandIn.away = True
    async with asyncio.timeout(100):
        assert await searching.found() == ("postgres", 100)
