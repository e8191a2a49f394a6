"""A standby takes over, with all that the primary had, or without its last events."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from uuid import UUID, uuid4

import psycopg
import pytest

from eventstore.log import LogUnavailable, StreamAppend
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from tests.support.databases.faketime import Clock
from tests.support.events.notes import CODEC, TALLY, Counted
from tests.support.servers.standby import Pair

PATIENCE = 30.0


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as made:
        yield made


async def head_of(log: PostgresLog) -> int:
    """The end of the log, once a server is up again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(psycopg.OperationalError, LogUnavailable):
                return await log.head()
            await asyncio.sleep(0.1)


def epochs(pair: Pair) -> list[tuple[int, int]]:
    with psycopg.connect(pair.standby.url) as conn:
        return conn.execute("SELECT number, position FROM log.epochs ORDER BY number").fetchall()


async def test_a_standby_that_had_all_goes_on_in_the_same_history(pair: Pair) -> None:
    async with PostgresLog.open(pair.url, CODEC, pool_size=2) as log:
        here, stream = Repository(log), uuid4()
        pair.standby.start()
        await log.append([StreamAppend(stream, 0, [Counted(by=1)] * 5)])
        assert (await here.state(TALLY, stream)).total == 5  # type: ignore[union-attr]
        pair.catch_up()
        pair.fail_over()
        assert await head_of(log) == 5
        await log.append([StreamAppend(stream, 5, [Counted(by=1)])])
        assert log.history.generation == 0, "nothing that was known is void"
        assert epochs(pair) == [(1, 0), (2, 5)], "but subscribers may wish to know"


async def test_a_standby_that_lacks_the_last_events_begins_another(pair: Pair) -> None:
    async with PostgresLog.open(pair.url, CODEC, pool_size=2) as log:
        stream = uuid4()
        pair.standby.start()
        await log.append([StreamAppend(stream, 0, [Counted(by=1)] * 5)])
        pair.catch_up()
        pair.standby.stop()
        await log.append([StreamAppend(stream, 5, [Counted(by=1)] * 5)])  # acknowledged, and lost
        (pair.standby._data / "postgresql.auto.conf").open("a").write("primary_conninfo = ''\n")
        pair.standby.start()
        pair.fail_over()
        assert await head_of(log) == 5
        assert log.history.generation == 1
        assert epochs(pair) == [(1, 0), (2, 5)]
        await log.append([StreamAppend(stream, 5, [Counted(by=2)])])
        assert (await Repository(log).state(TALLY, stream)).total == 7  # type: ignore[union-attr]


async def test_a_standby_whose_clock_is_behind_takes_over_and_no_time_goes_back(pair: Pair) -> None:
    with Clock() as clock:
        clock.ahead(-20)
        with clock.governing():
            pair.standby.start()
        async with PostgresLog.open(pair.url, CODEC, pool_size=2) as log:
            before = await appended(log)
            pair.catch_up()
            pair.fail_over()
            assert await head_of(log) == 1
            after = await appended(log)
            (first,), (last,) = [await log.read_stream(stream) for stream in (before, after)]
            assert (first.env.position, last.env.position) == (1, 2)
            assert first.env.recorded_at <= last.env.recorded_at
            assert first.env.occurred_at < last.env.occurred_at


async def test_when_the_primary_stops_in_order_the_standby_takes_over_and_nothing_is_lost(
    pair: Pair,
) -> None:
    async with PostgresLog.open(pair.url, CODEC, pool_size=2) as log:
        pair.standby.start()
        acknowledged = [await appended(log) for _ in range(5)]
        pair.catch_up()
        taking_over = asyncio.create_task(asyncio.to_thread(pair.fail_over, in_order=True))
        while not taking_over.done():
            with suppress(LogUnavailable):
                acknowledged.append(await appended(log))
        await taking_over
        async with asyncio.timeout(20):
            while True:
                with suppress(LogUnavailable):
                    acknowledged.append(await appended(log))
                    break
            while True:
                with suppress(psycopg.OperationalError):
                    assert await log.versions(acknowledged) == [1] * len(acknowledged)
                    break
        with psycopg.connect(pair.standby.url) as conn:
            assert conn.execute(
                "SELECT count(*) >= %s FROM log.events", [len(acknowledged)]
            ).fetchone() == (True,)
        assert log.history.generation == 0


async def appended(log: PostgresLog) -> UUID:
    """The stream of a newly appended event."""
    stream = uuid4()
    await log.append([StreamAppend(stream, 0, [Counted(by=1)])])
    return stream
