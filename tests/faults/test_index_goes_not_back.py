"""PostgreSQL goes back, Elasticsearch does not: no search shows a game, or a price, of the lost
history."""

import asyncio

from domain.catalog import GameUpdated, Price
from tests.support.databases.going_back import Earlier
from tests.support.shops.projected import projecting
from tests.support.shops.searching import Searching, open_searching

PRICES = {cents: GameUpdated(prices=(Price("*", cents, "USD"),)) for cents in (1, 2500)}


async def shown(searching: Searching) -> list[tuple[str, int]]:
    """Titles and prices, from either engine."""
    found = await searching.found()
    return sorted(
        (item.document.title, item.document.prices[0].amount_cents) for item in found.items
    )


async def lose(searching: Searching, earlier: Earlier) -> None:
    """A game, and a price change of another, which Elasticsearch keeps; at the end no projector of
    the index runs."""
    async with projecting(searching.shop.url, [searching.indexed]):
        await searching.sells("Celeste")
        await searching.until_elasticsearch_answers()
    earlier.keep()
    versions = dict(searching.shop._versions)
    await reconnected(searching)
    async with projecting(searching.shop.url, [searching.indexed]):
        await searching.happened("Celeste", PRICES[1])
        await searching.sells("Ghost Story")
        await searching.until_elasticsearch_answers()
    searching.shop._versions.clear()
    searching.shop._versions.update(versions)
    searching.titles.remove("Ghost Story")
    earlier.go_back()


async def reconnected(searching: Searching) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await searching.shop.log.head()
            except Exception:  # whatever a starting server answers
                await asyncio.sleep(0.05)
            else:
                return


async def is_right(searching: Searching) -> None:
    """The same game changes at the same position as in the lost history: the position does not show
    the difference."""
    assert await shown(searching) == [("Celeste", 1499)]
    await searching.happened("Celeste", PRICES[2500])
    assert await shown(searching) == [("Celeste", 2500)]
    async with projecting(searching.shop.url, [searching.indexed]):
        await searching.until_elasticsearch_answers()
        assert await shown(searching) == [("Celeste", 2500)]
        await searching.is_proven()
        await searching.sells("Braid")
        await searching.is_proven()


async def test_an_index_of_a_history_that_is_gone_is_made_anew_under_running_processes(
    database: str, elasticsearch_url: str, elasticsearch_prefix: str
) -> None:
    async with open_searching(
        database, elasticsearch_url, elasticsearch_url, elasticsearch_prefix
    ) as searching:
        await lose(searching, Earlier(database))
        await reconnected(searching)
        await is_right(searching)


async def test_an_index_of_a_history_that_is_gone_is_known_when_nobody_remembers_it(
    database: str, elasticsearch_url: str, elasticsearch_prefix: str
) -> None:
    async with open_searching(
        database, elasticsearch_url, elasticsearch_url, elasticsearch_prefix
    ) as searching:
        await lose(searching, Earlier(database))
        # it does not return to it
        searching.shop.log.history._mark = type(searching.shop.log.history.mark)()
        versions = dict(searching.shop._versions)
    async with open_searching(
        database, elasticsearch_url, elasticsearch_url, elasticsearch_prefix
    ) as searching:
        searching.shop._versions.update(versions)
        searching.titles.append("Celeste")
        await searching.happened("Celeste", PRICES[2500])
        async with projecting(searching.shop.url, [searching.indexed]):
            async with asyncio.timeout(30):
                while await shown(searching) != [("Celeste", 2500)]:  # noqa: ASYNC110 another thread's work
                    await asyncio.sleep(0.05)
            await searching.until_elasticsearch_answers()
            assert await shown(searching) == [("Celeste", 2500)]
            await searching.is_proven()
