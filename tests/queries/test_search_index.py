"""The search index as a read model: queries use whichever tables, or index, are active."""

import asyncio
import random

import pytest
from elasticsearch import Elasticsearch

from adapters.elasticsearch.documents import ElasticsearchDocuments, index_name
from adapters.elasticsearch.store import ElasticsearchGameStore
from domain.catalog import GameRetired, GameUpdated, Price
from eventstore.database.postgres import connect
from projections.engine import rebuild
from projections.engine.runner import Registered
from projections.models.games import Games
from projections.search.projection import GamesIndex, GamesText
from queries.engine.positions import ActiveSubscription
from queries.search.postgres import PostgresGameIndex
from queries.search.searching import GameSearch, SearchQuery, SearchResult
from tests.support.events.history import GAME, game_created, some_id
from tests.support.shops.projected import CODEC, Shop, model, projecting


def rebuilt(url: str, registered: Registered) -> None:
    with connect(url, "test") as conn:
        assert rebuild.verify(conn, CODEC, registered, lambda _done, _all: None).difference.equal
        rebuild.rebuild(conn, CODEC, registered, lambda _done, _all: None)
        assert rebuild.verify(conn, CODEC, registered, lambda _done, _all: None).difference.equal


def verified(url: str, registered: Registered) -> rebuild.Verified:
    with connect(url, "test") as conn:
        return rebuild.verify(conn, CODEC, registered, lambda _done, _all: None)


async def test_a_search_goes_on_while_the_index_is_rebuilt(shop: Shop) -> None:
    await shop.happened(some_id("other"), game_created(title="Celeste"))
    position = await shop.happened(GAME, game_created())
    models = shop.models.reaching(position)
    done = asyncio.Event()

    async def search(subscription: ActiveSubscription) -> SearchResult:
        return await GameSearch(
            PostgresGameIndex(shop.log.pool, lambda: subscription.storage)
        ).search(SearchQuery(q="holow"))

    async def ask() -> None:
        while not done.is_set():
            found = await models.on_active(GamesText.name, search)
            assert [item.document.game_id for item in found.value.items] == [GAME]
            assert found.position >= position

    async def rebuild_often() -> None:
        try:
            for _ in range(2):
                await asyncio.to_thread(rebuilt, shop.url, model(GamesText.name))
        finally:
            done.set()

    await models.on_active(GamesText.name, search)
    await asyncio.gather(ask(), rebuild_often())


@pytest.fixture
def index(
    elasticsearch_url: str, elasticsearch_prefix: str
) -> tuple[Registered, ElasticsearchGameStore, str]:
    """The read model in Elasticsearch, the store beneath it, and the alias, which only this test
    uses."""

    client, prefix = (
        Elasticsearch(elasticsearch_url, request_timeout=30),
        f"{elasticsearch_prefix}shop",
    )
    return (
        Registered(GamesIndex(), ElasticsearchDocuments(client, prefix)),
        ElasticsearchGameStore(client),
        prefix,
    )


async def test_elasticsearch_holds_the_same_documents_and_the_alias_follows_a_rebuild(
    idle_shop: Shop, index: tuple[Registered, ElasticsearchGameStore, str]
) -> None:
    shop, (registered, store, alias) = idle_shop, index
    name = registered.projection.name
    async with projecting(shop.url, [registered]):
        await shop.happened(GAME, game_created(title="A\0B"), GameUpdated(tags=("New",)))
        await shop.happened(some_id("other"), game_created(title="Celeste"), GameRetired())
        assert await shop.models.waiter.wait([name], await shop.log.head(), 20)
        assert store.active_index(alias) == index_name(alias, registered.storage)
        found = {document.title: document for document in store.scan(alias)}
        assert (found["A\0B"].tags, found["A\0B"].position) == (["New"], 2)
        assert (found["Celeste"].status, found["Celeste"].position) == ("RETIRED", 4)
        await asyncio.to_thread(rebuilt, shop.url, registered)
        assert store.active_index(alias) == index_name(alias, f"{registered.storage}_r1")
        await shop.happened(GAME, GameUpdated(title="After the rebuild"))
        assert await shop.models.waiter.wait([name], await shop.log.head(), 20)
        assert {document.title for document in store.scan(alias)} == {
            "After the rebuild",
            "Celeste",
        }


@pytest.mark.parametrize("seed", range(3))
async def test_titles_of_any_characters_are_verified_and_rebuilt(
    idle_shop: Shop, index: tuple[Registered, ElasticsearchGameStore, str], seed: int
) -> None:
    """With either engine; the titles are drawn from all of Unicode, and some grow when they are
    folded."""
    shop, (in_elasticsearch, _, _) = idle_shop, index
    titles = [
        "㌖" * 150,
        "﷽" * 300,
        "𝕬" * 300,
        "'\\ \" '",
        "a\0b",
        "\u3164",
        "+=~^!",
        "\ufdd0\uffff",
        *any_titles(seed),
    ]
    models = [model(GamesText.name), model(Games.name), in_elasticsearch]
    async with projecting(shop.url, models):
        head = 0
        for number, title in enumerate(titles):
            said = {
                "title": title,
                "tags": (title,),
                "prices": (Price("UK", 1, "GBP"), Price("*", 2, "USD")),
            }
            head = await shop.happened(some_id(f"of any {number}"), game_created(**said))
        head = await shop.happened(some_id("of any 9"), GameUpdated(title=titles[-1], sku="new"))
        assert await shop.models.waiter.wait([each.projection.name for each in models], head, 20)
        assert await shop.operations.quarantine() == []
        for registered in models:
            await asyncio.to_thread(rebuilt, shop.url, registered)


def any_titles(seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(map(chr, rng.choices(ANY_CHARACTER, k=rng.randint(1, 300)))) for _ in range(40)]


ANY_CHARACTER = [*range(0xD800), *range(0xE000, 0x110000)]
"""All code points except surrogates, which no text in the log can contain."""


async def test_an_index_that_its_server_lost_is_filled_again_by_itself(
    idle_shop: Shop, index: tuple[Registered, ElasticsearchGameStore, str]
) -> None:
    shop, (registered, store, alias) = idle_shop, index
    name, lost = registered.projection.name, index_name(alias, registered.storage)
    other = some_id("other")

    async def filled_again() -> None:
        assert await shop.models.waiter.wait([name], await shop.log.head(), 20)
        async with asyncio.timeout(20):
            while len(list(store.scan(alias)) if store.active_index(alias) else []) < 2:  # noqa: ASYNC110 another's work
                await asyncio.sleep(0.05)

    async with projecting(shop.url, [registered]):
        await shop.happened(GAME, game_created())
        await shop.happened(other, game_created(title="Celeste"))
        await filled_again()
        store.drop_index(lost)  # while no event comes
        await filled_again()
    store.drop_index(lost)
    await shop.happened(other, GameUpdated(title="Silksong"))  # while no projector runs
    async with projecting(shop.url, [registered]):
        await filled_again()
        assert (await asyncio.to_thread(verified, shop.url, registered)).difference.equal
    assert await shop.operations.quarantine() == []
