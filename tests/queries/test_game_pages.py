"""Cached pages of games: read once, and never older than the projection."""

from typing import Any

import pytest

from domain.catalog import GameUpdated, Price
from queries.catalog import game_pages
from queries.catalog.game_pages import GamePages
from queries.catalog.games import Browse, browse
from queries.engine.read_models import ReadModels
from tests.support.events.history import game_created, registered, some_id
from tests.support.shops.projected import Shop

GAME, OTHER = some_id("celeste"), some_id("hades")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Browse]:
    """The pages that were read from the database."""
    made: list[Browse] = []
    real = browse

    async def counted(models: ReadModels, wanted: Browse) -> Any:
        made.append(wanted)
        return await real(models, wanted)

    monkeypatch.setattr(game_pages, "browse", counted)
    return made


async def titles(shop: Shop, pages: GamePages, **wanted: Any) -> list[str]:
    answer = await pages.browse(await shop.projected(), Browse(**wanted))
    return [game.title for game in answer.value.items]


async def test_a_page_is_read_once_while_no_game_changes(shop: Shop, reads: list[Browse]) -> None:
    pages = GamePages()
    await shop.happened(GAME, game_created(title="Celeste"))
    assert await titles(shop, pages) == ["Celeste"]

    position = await shop.happened(some_id("ana"), registered())

    again = await pages.browse(await shop.projected(), Browse())
    assert (len(again.value.items), again.position >= position) == (1, True)
    assert len(reads) == 1
    assert await titles(shop, pages, sort="title") == ["Celeste"]
    assert len(reads) == 2


async def test_a_changed_price_and_a_new_game_show_at_once(shop: Shop, reads: list[Browse]) -> None:
    pages = GamePages()
    await shop.happened(GAME, game_created(title="Celeste"))
    await titles(shop, pages)

    for cents in range(100, 110):
        await shop.happened(GAME, GameUpdated(prices=(Price("*", cents, "USD"),)))
        (game,) = (await pages.browse(await shop.projected(), Browse())).value.items
        assert game.prices[0].amount_cents == cents
    await shop.happened(OTHER, game_created(title="Hades"))
    assert await titles(shop, pages) == ["Hades", "Celeste"]


async def test_after_more_events_than_are_looked_through_pages_are_read_anew(
    shop: Shop, reads: list[Browse], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = GamePages()
    await shop.happened(GAME, game_created(title="Celeste"))
    await titles(shop, pages)
    monkeypatch.setattr(game_pages, "MAX_SCANNED_POSITIONS", 2)

    await shop.all_happened([(some_id(f"person {no}"), [registered()]) for no in range(3)])

    assert await titles(shop, pages) == ["Celeste"]
    assert len(reads) == 2


async def test_while_something_is_quarantined_no_page_is_kept(
    shop: Shop, reads: list[Browse]
) -> None:
    pages = GamePages()
    await shop.happened(GAME, game_created(title="Celeste"))
    await titles(shop, pages)
    async with shop.log.pool.connection() as conn:
        await conn.execute(
            "INSERT INTO consumers.quarantine (feed, stream_id, position, name, error) SELECT feed,"
            " %s, 1, 'game.updated.v1', 'broken' FROM consumers.feeds WHERE projection = 'games'",
            [OTHER],
        )

    await titles(shop, pages)
    await titles(shop, pages)

    assert len(reads) == 3


async def test_the_pages_that_were_asked_for_last_are_kept(
    shop: Shop, reads: list[Browse], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(game_pages, "MAX_GAMES", 5)
    pages = GamePages()
    await shop.happened(GAME, game_created(title="Celeste"))

    for category in ("a", "b", "c", "d"):  # which do not exist
        await titles(shop, pages)
        await titles(shop, pages, category=category)
    assert [each.category for each in reads] == [None, "a", "b", "c", "d"]

    await titles(shop, pages)
    await titles(shop, pages, category="a")
    assert [each.category for each in reads[5:]] == ["a"]


async def test_a_page_is_kept_though_the_log_moves_on_while_it_is_read(
    shop: Shop, reads: list[Browse], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = GamePages()
    await shop.happened(GAME, game_created(title="Celeste"))
    counted = vars(game_pages)["browse"]

    async def in_a_busy_shop(models: ReadModels, wanted: Browse) -> Any:
        await shop.happened(some_id(f"person {len(reads)}"), registered())
        return await counted(await shop.projected(), wanted)

    monkeypatch.setattr(game_pages, "browse", in_a_busy_shop)
    assert await titles(shop, pages) == await titles(shop, pages) == ["Celeste"]

    assert len(reads) == 1
