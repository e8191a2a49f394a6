"""A standby answers only as the primary would: not while it is behind, frozen, away, promoted or of
another history, nor before it has what the caller wrote."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import msgspec
import psycopg
import pytest

from domain.catalog import GameUpdated
from eventstore.log import Metadata, StreamAppend
from projections.registry import read_models
from queries.catalog.games import game
from queries.engine import own_writes, replica
from queries.engine.own_writes import OwnWrites, ReadYourWrites
from queries.engine.positions import PositionUnknown
from queries.engine.read_models import ReadModels
from tests.support.events.history import GAME, game_created, some_id
from tests.support.servers.standby import Pair
from tests.support.shops.replicated import ReplicatedShop, database_of, open_replicated

ANN, BOB = some_id("ann"), some_id("bob")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy with other tests a projector may take longer than a second."""
    monkeypatch.setattr(own_writes, "WAIT_TIMEOUT_SECONDS", 30.0)


class One(msgspec.Struct):
    n: int


class Process:
    """An API process with a standby, and people who edit a game."""

    def __init__(self, shop: ReplicatedShop) -> None:
        self.shop = shop
        models = [each.projection for each in read_models()]
        self._own = OwnWrites(shop.log, shop.primary.waiter, models, [])

    def own(self, user_id: UUID) -> ReadYourWrites:
        return self._own.of(user_id)

    async def edit(self, title: str, by: UUID) -> int:
        version = (await self.shop.log.versions([GAME]))[0]
        event = game_created(title=title) if version == 0 else GameUpdated(title=title)
        appended = await self.shop.log.append(
            [StreamAppend(GAME, version, [event])], Metadata(f"user:{by}")
        )
        return appended.position

    async def title(self, reads: ReadModels | None = None) -> str:
        """As a stranger sees it, or in this request."""
        found = (await game(reads or self.shop.request(), GAME)).value
        return "" if found is None else found.title

    async def own_title(self, user_id: UUID) -> str:
        return await self.title(self.shop.request(self.own(user_id)))

    async def is_answered_by_the_standby(self) -> None:
        """Wait until it has everything, and answers."""
        await self.shop.projected()
        answered = self.shop.replica.answered
        async with asyncio.timeout(30):
            while self.shop.replica.answered == answered:
                await self.title()

    async def until_the_primary_answers(self) -> None:
        async with asyncio.timeout(30):
            while True:
                with suppress(psycopg.OperationalError):
                    await self.shop.log.head()
                    return

    async def until_unfit(self, why: str) -> None:
        await self.shop.until(lambda: why in self.shop.replica.unfit)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair(max_standby_streaming_delay="0") as made:
        made.standby.start()
        yield made


@pytest.fixture
async def process(pair: Pair, quick_looks: None) -> AsyncIterator[Process]:
    with database_of(pair) as url:
        async with open_replicated(pair, url) as shop:
            process = Process(shop)
            await process.edit("first", ANN)
            await process.is_answered_by_the_standby()
            yield process
            pair.go_on()
            pair.resume_replay()


async def test_whoever_wrote_nothing_is_answered_by_the_standby(process: Process) -> None:
    answered = process.shop.replica.answered
    while process.shop.replica.answered < answered + 10:
        assert await process.title() == await process.own_title(BOB) == "first"


async def test_own_writes_are_never_missed_while_replay_stops_and_goes_on(
    process: Process, pair: Pair
) -> None:
    for n in range(60):
        if n % 10 == 3:
            await asyncio.to_thread(pair.pause_replay)
        if n % 10 == 8:
            await asyncio.to_thread(pair.resume_replay)
            await process.is_answered_by_the_standby()
        await process.edit(f"title {n}", ANN)
        assert await process.own_title(ANN) == f"title {n}"
    assert process.shop.replica.passed_on > 0


async def test_a_position_that_a_client_names_is_not_missed(process: Process, pair: Pair) -> None:
    await asyncio.to_thread(pair.pause_replay)
    position = await process.edit("second", ANN)
    assert await process.title(process.shop.request().reaching(position)) == "second"
    with pytest.raises(PositionUnknown):
        await process.title(process.shop.request().reaching(position + 1))
    await asyncio.to_thread(pair.resume_replay)
    await process.is_answered_by_the_standby()
    answered = process.shop.replica.answered
    while process.shop.replica.answered == answered:
        assert await process.title(process.shop.request().reaching(position)) == "second"


async def test_a_standby_that_stops_replaying_is_soon_left_aside_for_strangers(
    process: Process, pair: Pair
) -> None:
    await asyncio.to_thread(pair.pause_replay)
    position = await process.edit("second", ANN)
    await process.shop.primary.waiter.wait(["games"], position, 30)
    await process.until_unfit("behind")
    assert await process.title() == "second"
    await asyncio.to_thread(pair.resume_replay)
    await process.is_answered_by_the_standby()


async def test_a_change_without_an_event_is_seen_soon(process: Process, pair: Pair) -> None:
    """As a rebuild's switch, or what a retried quarantine folds."""
    await asyncio.to_thread(pair.pause_replay)
    with psycopg.connect(process.shop.url, autocommit=True) as conn:
        conn.execute("CREATE TABLE read.changed ()")
    await process.until_unfit("behind")


async def test_a_frozen_standby_costs_nobody_the_answer(process: Process, pair: Pair) -> None:
    pair.freeze()
    assert await process.own_title(ANN) == "first"
    await process.until_unfit("does not answer")
    passed_on = process.shop.replica.passed_on
    assert await process.title() == "first"
    assert process.shop.replica.passed_on == passed_on + 1
    pair.go_on()
    await process.is_answered_by_the_standby()


async def test_a_standby_that_is_away_is_used_again_when_it_is_back(
    process: Process, pair: Pair
) -> None:
    pair.standby.stop()
    for n in range(5):
        await process.edit(f"title {n}", ANN)
        assert await process.own_title(ANN) == f"title {n}"
    await process.until_unfit("does not answer")
    with pytest.raises(replica.Unfit):
        await process.shop.replica.check()
    pair.standby.start()
    await process.is_answered_by_the_standby()
    await process.shop.replica.check()


async def test_what_replay_cancels_is_asked_of_the_primary(process: Process, pair: Pair) -> None:
    """PostgreSQL cancels a statement that keeps a standby from replaying (40001)."""
    slow_on_a_standby = """
    SELECT 1 AS n FROM @games
    WHERE NOT pg_is_in_recovery() OR (SELECT count(*) FROM pg_sleep(60)) > 0
    """
    asked = asyncio.create_task(process.shop.request().rows(One, slow_on_a_standby))
    busy = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    with psycopg.connect(pair.standby.url, autocommit=True) as conn:
        await process.shop.until(lambda: conn.execute(busy).fetchone() == (1,))
    storage = (await process.shop.primary.waiter.active(["games"]))["games"].storage
    with psycopg.connect(process.shop.url) as conn:
        conn.execute(f'LOCK TABLE read."{storage}"'.encode())
        conn.execute("CREATE TABLE read.written ()")  # so that the lock is replayed
    assert (await asked).value == [One(1)]
    await process.is_answered_by_the_standby()


async def test_a_promoted_standby_answers_nothing_more(quick_looks: None) -> None:
    with Pair() as pair, database_of(pair) as url:
        pair.standby.start()
        async with open_replicated(pair, url) as shop:
            process = Process(shop)
            await process.edit("first", ANN)
            await process.is_answered_by_the_standby()
            pair.promote()
            answered = shop.replica.answered
            for n in range(5):
                await process.edit(f"title {n}", ANN)
                assert await process.own_title(ANN) == f"title {n}"
            await process.until_unfit("no standby")
            assert shop.replica.answered == answered


async def test_events_that_only_the_standby_has_are_not_shown(quick_looks: None) -> None:
    """The primary is restored to an earlier moment, and the standby cannot follow it."""
    with Pair() as pair, database_of(pair) as url:
        pair.standby.start()
        async with open_replicated(pair, url) as shop:
            await Process(shop).edit("first", ANN)
            await Process(shop).is_answered_by_the_standby()
        earlier = pair.primary.home / "earlier"
        pair.primary.shut_down()
        await asyncio.to_thread(copy, pair.primary.home / "postgres", earlier)
        pair.primary.start()
        async with open_replicated(pair, url) as shop:
            process = Process(shop)
            await process.edit("lost", ANN)
            ahead = "SELECT pg_logical_emit_message(true, 'test', repeat('x', 8000000))"
            pair.primary.run(ahead)  # so that the standby is ahead, and not taken to be behind
            await process.is_answered_by_the_standby()
            await asyncio.to_thread(pair.catch_up)
            pair.primary.kill()
            shutil.rmtree(pair.primary.home / "postgres")
            earlier.rename(pair.primary.home / "postgres")
            pair.primary.start()
            await process.until_the_primary_answers()
            assert await process.own_title(ANN) == "first"
            position = await process.edit("found", ANN)
            await shop.primary.waiter.wait(["games"], position, 30)
            assert await process.own_title(ANN) == "found"
            await shop.until(lambda: bool(shop.replica.unfit))
            assert await process.title() == "found"


def copy(folder: Path, to: Path) -> None:
    subprocess.run(["cp", "-a", folder, to], check=True)
