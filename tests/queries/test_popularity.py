"""What sells best is suggested first."""

from uuid import UUID

import pytest

from domain.catalog import GameRetired
from domain.ids import library_id
from domain.library import LibraryGameRemoved
from queries.search import popular
from queries.search.engines import SearchEngines
from queries.search.popular import PopularGame, PopularGames, Popularity
from tests.support.events.history import GAME, ORDER, game_added, game_created, some_id
from tests.support.shops.projected import Shop

OTHER = some_id("another game")


async def _two_games(shop: Shop) -> None:
    await shop.happened(GAME, game_created(title="Hollow Knight"))
    await shop.happened(OTHER, game_created(title="Hollow Hills", sku="2"))


async def _bought(shop: Shop, game_id: UUID, people: str) -> None:
    """These people buy a game, and it has been counted."""
    for person in people:
        added = game_added(user_id=some_id(person), game_id=game_id)
        await shop.happened(library_id(some_id(person)), added)
    await _counted(shop)


async def _counted(shop: Shop) -> None:
    models = ["game_sales", "games_text"]
    assert await shop.models.waiter.wait(models, await shop.log.head(), 20)


async def _suggested(shop: Shop, popularity: Popularity) -> list[str]:
    engines = SearchEngines(shop.log.pool, None, popularity)
    return [each.title for each in (await engines.suggest(shop.models, "holl")).value]


async def test_what_people_buy_counts_once_the_list_is_read_anew(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _two_games(shop)
    kept = Popularity(shop.models)
    await _bought(shop, GAME, "abc")
    assert await _suggested(shop, kept) == ["Hollow Knight", "Hollow Hills"]
    await _bought(shop, OTHER, "abcdefghijkl")
    assert await _suggested(shop, kept) == ["Hollow Knight", "Hollow Hills"], "as it was read"
    monkeypatch.setattr(popular, "REFRESH_SECONDS", 0.0)
    anew = Popularity(shop.models)
    for bought, titles in ((OTHER, ["Hollow Hills", "Hollow Knight"]), (GAME, ["Hollow Knight"])):
        assert (await _suggested(shop, anew))[: len(titles)] == titles, bought
        await _bought(shop, GAME, "defghijklmnopqrstuvwxyz")


async def test_only_games_on_sale_that_were_sold_are_in_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(popular, "REFRESH_SECONDS", 0.0)
    await _two_games(shop)
    await _bought(shop, GAME, "ab")
    await _bought(shop, OTHER, "a")
    popularity = Popularity(shop.models)
    assert (await popularity.games()).sold == {GAME: 2, OTHER: 1}
    back = LibraryGameRemoved(game_id=OTHER, order_id=ORDER, reason="refunded")
    await shop.happened(library_id(some_id("a")), back)
    await _counted(shop)
    assert (await popularity.games()).sold == {GAME: 2}
    await shop.happened(GAME, GameRetired())
    await _counted(shop)
    assert (await popularity.games()).sold == {}


async def test_a_list_that_cannot_be_read_is_none_and_one_that_was_read_is_kept(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(popular, "REFRESH_SECONDS", 0.0)
    await _two_games(shop)
    await _bought(shop, GAME, "a")
    popularity = Popularity(shop.models)
    before = await popularity.games()
    assert before.sold == {GAME: 1}
    async with shop.log.pool.connection() as conn:
        found = await conn.execute(
            "SELECT storage FROM consumers.feeds WHERE projection = 'game_sales'"
        )
        (storage,) = await found.fetchone() or ("",)
        await conn.execute(f'ALTER TABLE read."{storage}" RENAME TO away'.encode())
    assert await popularity.games() is before
    assert (await Popularity(shop.models).games()).sold == {}
    assert await _suggested(shop, Popularity(shop.models)) == ["Hollow Hills", "Hollow Knight"]


def test_a_title_is_found_by_the_start_of_any_of_its_first_words() -> None:
    ids = [some_id(str(n)) for n in range(30)]
    games = [PopularGame(id_, 100 - n, f"the elder scrolls {n}") for n, id_ in enumerate(ids)]
    found = PopularGames([*games, PopularGame(GAME, 1, "a title of more than a few letters" * 9)])
    assert found.begun_by("the eld") == found.begun_by("elder sc") == ids[: popular.MAX_PROPOSED]
    assert found.begun_by("scrolls 29") == [ids[29]]
    assert found.begun_by("scrolls 2")[:2] == [ids[2], ids[20]]
    assert found.begun_by("lder") == found.begun_by("zzz") == []
    assert found.begun_by("a title of more than a few letters" * 3) == [GAME]
    assert popular.NONE.begun_by("a") == []
