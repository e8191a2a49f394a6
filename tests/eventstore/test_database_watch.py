"""The watch over the database: what counts as an outage, and what does not."""

import asyncio
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from eventstore.database import postgres
from eventstore.database.connections import DatabaseAway
from eventstore.database.postgres import open_pool
from eventstore.database.watch import AWAY_SECONDS, DatabaseWatch, watching
from eventstore.postgres_log import PostgresLog
from tests.support.events.notes import CODEC, new_stream
from tests.support.servers.faulty_proxy import Proxy, Way


@pytest.fixture
def proxy(database: str) -> Iterator[Proxy]:
    with Proxy(database) as made:
        yield made


async def ask(pool: AsyncConnectionPool, query: bytes = b"SELECT 1") -> object:
    async with pool.connection() as conn:
        return await (await conn.execute(query)).fetchone()


async def until(watch: DatabaseWatch, away: bool) -> None:
    async with asyncio.timeout(10):
        while watch.away is not away:  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("pool_is_used", [True, False])
async def test_a_loop_that_stands_still_is_no_outage(database: str, pool_is_used: bool) -> None:
    async with watching(database) as watch, open_pool(database, 4, watch=watch) as pool:
        for _ in range(3):
            asking = [
                asyncio.create_task(ask(pool, b"SELECT pg_sleep(0.3)"))
                for _ in range(4 * pool_is_used)
            ]
            await asyncio.sleep(0.1)
            time.sleep(1.2)  # noqa: ASYNC251 - the loop is what stands still
            await asyncio.gather(*asking)
            assert not watch.away
        await asyncio.sleep(AWAY_SECONDS)
        assert not watch.away


async def test_a_slow_statement_is_no_outage_and_is_let_finish(database: str) -> None:
    async with watching(database) as watch, open_pool(database, 4, watch=watch) as pool:
        with watch.while_there():
            await asyncio.gather(*[ask(pool, b"SELECT pg_sleep(1.5)") for _ in range(4)])


async def test_a_watch_that_is_deaf_while_others_are_heard_sees_no_outage(
    database: str, proxy: Proxy
) -> None:
    async with watching(proxy.url) as watch, open_pool(database, 2, watch=watch) as pool:
        await ask(pool)
        proxy.freeze()
        end = time.monotonic() + 3 * AWAY_SECONDS
        while time.monotonic() < end:
            await ask(pool)
            assert not watch.away


async def test_who_waits_is_ended_when_it_is_away_who_comes_is_refused_and_all_goes_on_afterwards(
    proxy: Proxy,
) -> None:
    async with watching(proxy.url) as watch, open_pool(proxy.url, 2, watch=watch) as pool:
        await ask(pool)

        async def needing_it() -> None:
            with watch.while_there():
                await asyncio.Event().wait()  # whatever it is that it waits for

        waiting = asyncio.create_task(needing_it())
        statement = asyncio.create_task(ask(pool, b"SELECT pg_sleep(60)"))
        await asyncio.sleep(0.05)
        proxy.freeze()
        for task in (waiting, statement):
            with pytest.raises(psycopg.OperationalError):
                await asyncio.wait_for(task, 5)
        await until(watch, True)
        with pytest.raises(DatabaseAway):
            await needing_it()
        proxy.heal()
        await until(watch, False)
        assert await asyncio.wait_for(ask(pool), 5) == (1,)


async def test_a_task_cancelled_by_somebody_else_is_cancelled() -> None:
    watch = DatabaseWatch("postgresql://nowhere")

    async def needing_it() -> None:
        with watch.while_there():
            await asyncio.Event().wait()

    task = asyncio.create_task(needing_it())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("way", Way)
async def test_an_append_whose_connection_alone_falls_silent_is_settled(
    database: str, proxy: Proxy, way: Way
) -> None:
    async with (
        PostgresLog.open(proxy.url, CODEC, watched=True) as log,
        PostgresLog.open(database, CODEC) as other,
    ):
        await log.append([new_stream("x")])
        proxy.freeze([way], only_present=True)
        stream = new_stream("y")
        start = time.monotonic()
        landed = await asyncio.wait_for(log.append([stream]), 5)
        print(f"appended after {time.monotonic() - start:.2f} s")
        ((first, *_),) = [await other.read_stream(stream.stream_id)]
        assert first.env.position == landed.first_position


async def test_a_busy_pool_raises_in_time_and_is_no_outage(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "WAIT_SECONDS", 0.3)
    async with watching(database) as watch, open_pool(database, 1, watch=watch) as pool:
        busy = asyncio.create_task(ask(pool, b"SELECT pg_sleep(1.5)"))
        await asyncio.sleep(0.2)
        with watch.while_there(), pytest.raises(PoolTimeout):
            await ask(pool)
        await busy
        assert not watch.away
