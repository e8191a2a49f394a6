"""The log goes back: nothing that a process remembers of lost events is taken for the events that
replaced them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID, uuid4

import psycopg
import pytest

from eventstore.aggregate import Aggregate
from eventstore.consumers.stream_watcher import StreamFollower
from eventstore.decide import decide
from eventstore.history import HistoryChanged
from eventstore.log import LogUnavailable, StreamAppend, VersionConflict
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from eventstore.snapshots import Snapshots
from eventstore.unit_of_work import UnitOfWork
from queries.live.subscriptions import LiveStatus
from tests.support.databases.going_back import Earlier
from tests.support.databases.log_dump import LogDump
from tests.support.events.history import game_created
from tests.support.events.notes import CODEC, TALLY, Counted, Tally, evolve
from tests.support.shops.projected import Shop, open_shop, projecting

PATIENCE = 15.0


class TooMuch(Exception):
    """The total would be below zero."""


@pytest.fixture
async def log(database: str) -> AsyncIterator[PostgresLog]:
    """The log of a process that keeps running."""
    async with PostgresLog.open(database, CODEC, pool_size=2) as opened:
        yield opened


@pytest.fixture
def earlier(database: str) -> Earlier:
    return Earlier(database)


async def change(repository: Repository, stream: UUID, by: int) -> None:
    """Change the total, never below zero."""

    async def decision(unit: UnitOfWork) -> None:
        state = await unit.load(TALLY, stream)
        if (state.total if state else 0) + by < 0:
            raise TooMuch
        if state is None:
            unit.create(TALLY, stream, [Counted(by=by)])
        else:
            unit.emit(stream, [Counted(by=by)])

    await decide(repository, decision)


async def total(log: PostgresLog, stream: UUID) -> int:
    """The sum of the events."""
    return sum(recorded.event.by for recorded in await log.read_stream(stream))


async def noticed(log: PostgresLog) -> None:
    """Wait until this process has noticed by itself, which it does within a second."""
    async with asyncio.timeout(PATIENCE):
        while log.history.generation == 0:
            with suppress(psycopg.OperationalError, LogUnavailable):
                await log.head()
            await asyncio.sleep(0.02)


def epochs(url: str) -> list[tuple[int, int, str]]:
    """Number, position and reason of each."""
    with psycopg.connect(url) as conn:
        return conn.execute(
            "SELECT number, position, reason FROM log.epochs ORDER BY number"
        ).fetchall()


# -- states ----------------------------------------------------------------------------------------


async def test_a_rule_is_not_decided_on_states_that_are_gone(
    log: PostgresLog, earlier: Earlier
) -> None:
    here, stream = Repository(log), uuid4()
    await change(here, stream, 100)
    earlier.keep()
    await change(here, stream, 500)
    await change(here, stream, 400)
    earlier.go_back()
    # another process, which has read as far as this one
    async with PostgresLog.open(earlier.url, CODEC) as fresh:
        for by in (-30, -30):
            await change(Repository(fresh), stream, by)
    with pytest.raises(TooMuch):
        await change(here, stream, -800)
    await change(here, stream, -40)
    assert await total(log, stream) == 0
    assert log.history.generation == 1


async def test_an_append_that_waits_while_the_log_goes_back_is_decided_again(
    log: PostgresLog, earlier: Earlier
) -> None:
    here, stream = Repository(log), uuid4()
    await change(here, stream, 100)
    earlier.keep()
    await change(here, stream, 500)
    deciding, going_on = asyncio.Event(), asyncio.Event()

    async def spend_all(unit: UnitOfWork) -> None:
        state = await unit.load(TALLY, stream)
        deciding.set()
        await going_on.wait()
        assert state is not None
        unit.emit(stream, [Counted(by=-state.total)])

    spending = asyncio.create_task(decide(here, spend_all))
    await deciding.wait()  # it saw 600
    earlier.go_back()
    async with PostgresLog.open(earlier.url, CODEC) as fresh:
        await change(Repository(fresh), stream, 1)  # so that the version is the one seen before
    going_on.set()
    async with asyncio.timeout(PATIENCE):
        await spending
    assert await total(log, stream) == 0


async def test_an_append_without_a_unit_is_refused_when_the_log_went_back(
    log: PostgresLog, earlier: Earlier
) -> None:
    stream = uuid4()
    await log.append([StreamAppend(stream, 0, [Counted(by=1)])])
    earlier.keep()
    await log.append([StreamAppend(stream, 1, [Counted(by=10)])])
    earlier.go_back()
    async with PostgresLog.open(earlier.url, CODEC) as fresh:
        await fresh.append([StreamAppend(stream, 1, [Counted(by=100)])])
    with pytest.raises(VersionConflict):  # version 2 exists, but is another event
        await log.append([StreamAppend(stream, 2, [Counted(by=1000)])])
    assert await total(log, stream) == 101


async def test_a_lost_append_is_repeated_under_its_key(log: PostgresLog, earlier: Earlier) -> None:
    """A request with an Idempotency-Key that only the lost history knew is carried out."""
    from eventstore.log import IdempotencyKey

    key = IdempotencyKey(uuid4())
    earlier.keep()
    await log.append([StreamAppend(uuid4(), 0, [Counted(by=1)])], once=key)
    earlier.go_back()
    await noticed(log)
    stream = uuid4()
    await log.append([StreamAppend(stream, 0, [Counted(by=1)])], once=key)
    assert await total(log, stream) == 1


async def test_a_snapshot_of_a_state_that_is_gone_is_neither_kept_nor_read(
    log: PostgresLog, earlier: Earlier
) -> None:
    snapped = Aggregate("test", Tally, evolve, snapshot_every=5)
    stream = uuid4()
    await log.append([StreamAppend(stream, 0, [Counted(by=1)] * 3)])
    earlier.keep()
    here = Repository(log, Snapshots(log.pool))
    await log.append([StreamAppend(stream, 3, [Counted(by=100)] * 7)])
    generation = log.history.generation
    earlier.go_back()
    await noticed(log)
    snapshots = Snapshots(log.pool)
    with pytest.raises(HistoryChanged):  # as a task would that was about to save it
        await snapshots.save(
            stream, "test.1", Tally(703, 10), 10, lambda: log.history.must_be(generation)
        )
    await snapshots.save(stream, "test.1", Tally(703, 10), 10)
    assert await here.state(snapped, stream) == Tally(3, 3)


# -- the end of the log ----------------------------------------------------------------------------


async def test_a_waiter_for_the_log_learns_that_it_went_back(
    log: PostgresLog, earlier: Earlier
) -> None:
    earlier.keep()
    landed = await log.append([StreamAppend(uuid4(), 0, [Counted(by=1)] * 20)])
    waiting = asyncio.create_task(log.watcher.beyond(landed.position))
    await asyncio.sleep(0)
    earlier.go_back()
    with pytest.raises(HistoryChanged):
        async with asyncio.timeout(PATIENCE):
            await waiting
    assert await log.head() == 0
    async with PostgresLog.open(earlier.url, CODEC) as fresh:
        await fresh.append([StreamAppend(uuid4(), 0, [Counted(by=2)])])
    async with asyncio.timeout(PATIENCE):
        assert await log.watcher.beyond(0) == 1


async def test_who_follows_a_stream_is_woken_and_goes_on(
    log: PostgresLog, earlier: Earlier
) -> None:
    stream, follower = uuid4(), StreamFollower(log)
    try:
        await log.append([StreamAppend(stream, 0, [Counted(by=1)])])
        earlier.keep()
        await log.append([StreamAppend(stream, 1, [Counted(by=1)] * 20)])
        async with follower.watching([stream]) as news:
            earlier.go_back()
            async with asyncio.timeout(PATIENCE):
                await news.wait()  # it may be another by now
                async with PostgresLog.open(earlier.url, CODEC) as fresh:
                    await noticed(log)
                    news.clear()
                    await fresh.append([StreamAppend(stream, 1, [Counted(by=5)])])
                await news.wait()
        assert await total(log, stream) == 6
    finally:
        await follower.close()


# -- epochs ----------------------------------------------------------------------------------------


async def test_an_epoch_begins_where_the_histories_part(log: PostgresLog, earlier: Earlier) -> None:
    await log.append([StreamAppend(uuid4(), 0, [Counted(by=1)] * 3)])
    earlier.keep()
    await log.append([StreamAppend(uuid4(), 0, [Counted(by=1)] * 4)])
    earlier.go_back()
    await noticed(log)
    assert [(number, position) for number, position, _ in epochs(earlier.url)] == [(1, 0), (2, 3)]
    assert "ends at position 3" in epochs(earlier.url)[1][2]


async def test_processes_that_find_out_together_begin_one_epoch(
    database: str, earlier: Earlier
) -> None:
    async with PostgresLog.open(database, CODEC) as one, PostgresLog.open(database, CODEC) as other:
        earlier.keep()
        await one.append([StreamAppend(uuid4(), 0, [Counted(by=1)])])
        assert await other.head() == 1
        earlier.go_back()
        await asyncio.gather(noticed(one), noticed(other))
    assert [number for number, _, _ in epochs(database)] == [1, 2]


async def test_a_lost_connection_alone_changes_nothing(log: PostgresLog, database: str) -> None:
    here, stream = Repository(log), uuid4()
    await change(here, stream, 100)
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await change(here, stream, 1)
    assert log.history.generation == 0
    assert len(epochs(database)) == 1
    assert (await here.load(TALLY, stream, fresh=False))[2], "the cache is as it was"


async def test_the_log_is_replaced_under_open_connections(log: PostgresLog, database: str) -> None:
    """Its schema is dropped and restored: statements prepared on a connection refer to tables and
    types that are gone."""
    here, stream, dump = Repository(log), uuid4(), LogDump(database)
    await change(here, stream, 100)
    dump.keep()
    await change(here, stream, 500)
    watching = asyncio.create_task(log.watcher.beyond(1_000))
    await asyncio.sleep(0)
    dump.put_back()
    with pytest.raises(HistoryChanged):
        async with asyncio.timeout(PATIENCE):
            await watching
    with pytest.raises(TooMuch):
        await change(here, stream, -200)
    await change(here, stream, -100)
    assert await total(log, stream) == 0


async def test_live_clients_are_asked_to_start_over(database: str, earlier: Earlier) -> None:
    async with open_shop(database) as shop, projecting(database):
        await shop.happened(uuid4(), game_created())
        await shop.projected()
        live = LiveStatus(shop.log, shop.models)
        earlier.keep()
        await reached(shop)
        async with live.listening(uuid4(), None, at_most=1) as listener:
            await shop.happened(uuid4(), game_created())
            listening = asyncio.create_task(listener.news())
            earlier.go_back()
            with pytest.raises(HistoryChanged):
                async with asyncio.timeout(PATIENCE):
                    await listening
        await reached(shop)
        async with live.listening(uuid4(), None, at_most=1) as listener:
            assert listener.head == 1


async def reached(shop: Shop) -> None:
    """Wait until the database is up again, and the read models are, too."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(psycopg.OperationalError, LogUnavailable):
                await shop.projected()
                await shop.models.waiter.active()
                return
            await asyncio.sleep(0.05)
