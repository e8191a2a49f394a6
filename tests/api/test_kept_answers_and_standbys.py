"""What a process keeps is of the primary, whose changes it follows, also where standbys answer."""

import asyncio
from collections.abc import Iterator

import pytest
from starlette.requests import Request

from api.answers import Content
from api.kept_answers import KeptAnswers
from eventstore.database.postgres import connect
from kit.clock import SYSTEM_CLOCK
from projections.engine.rebuild import rebuild
from queries.catalog import game_tail
from queries.catalog.game_tail import GameTail
from queries.catalog.games import game
from queries.engine import replica
from queries.engine.read_models import ReadModels
from tests.support.events.history import GAME, game_created
from tests.support.servers.standby import Pair
from tests.support.shops.projected import CODEC, model
from tests.support.shops.replicated import ReplicatedShop, database_of, open_replicated


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        pair.standby.start()
        yield pair


async def title(models: ReadModels) -> tuple[Content, int]:
    found = await game(models, GAME)
    assert found.value is not None
    return Content(found.value.title.encode(), '"1"'), found.position


async def test_rows_of_a_standby_from_before_a_rebuild_are_not_kept(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No position tells of a rebuild."""
    monkeypatch.setattr(replica, "PAUSE_SECONDS", 0.1)
    with database_of(pair) as url:
        async with open_replicated(pair, url) as shop:
            await shop.happened(GAME, game_created(title="right"))
            await shop.projected()
            await asyncio.to_thread(make_wrong, shop, "wrong")
            await until_the_standby_says(shop, b"wrong")
            # from now on the standby is as far behind as it may be, for as long as the test takes
            monkeypatch.setattr(replica, "PAUSE_SECONDS", 600.0)
            monkeypatch.setattr(replica, "STALE_SECONDS", 600.0)
            monkeypatch.setattr(game_tail, "STALE_SECONDS", 600.0)
            await asyncio.to_thread(pair.pause_replay)
            await asyncio.to_thread(make_right, shop)
            tail = GameTail(shop.log, shop.primary)
            await tail._look()
            kept = KeptAnswers(tail, SYSTEM_CLOCK)
            for _ in range(3):
                answer = await kept.answer(a_request(), shop.request(), title, game_id=GAME)
                assert answer.body == b"right"
            await tail.close()


def a_request() -> Request:
    """Of somebody without a token."""
    scope = {"type": "http", "method": "GET", "path": "/game", "query_string": b"", "headers": []}
    return Request(scope)


def make_wrong(shop: ReplicatedShop, title: str) -> None:
    with connect(shop.url, "test", role="") as conn:
        row = conn.execute(
            "SELECT storage FROM consumers.feeds WHERE projection = 'games' AND active"
        ).fetchone()
        assert row is not None
        conn.execute(f'UPDATE read."{row[0]}" SET title = %s'.encode(), (title,))


def make_right(shop: ReplicatedShop) -> None:
    with connect(shop.url, "test") as conn:
        rebuild(conn, CODEC, model("games"), lambda _done, _all: None, replace=True)


async def until_the_standby_says(shop: ReplicatedShop, wanted: bytes) -> None:
    async with asyncio.timeout(30):
        while True:
            before = shop.replica.answered
            content, _ = await title(shop.request())
            if shop.replica.answered > before and content.body == wanted:
                return
