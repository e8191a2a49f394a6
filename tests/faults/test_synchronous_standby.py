"""Commits wait for a synchronous standby that is away: nothing is acknowledged before it has it,
and nobody waits for ever."""

import asyncio
from collections.abc import Iterator
from functools import partial
from uuid import uuid4

import psycopg
import pytest

from eventstore.database.postgres import connect, open_pool
from eventstore.database.watch import watching
from eventstore.log import AlreadyDone, IdempotencyKey, LogUnavailable
from eventstore.postgres_log import PostgresLog
from tests.support.events.notes import CODEC, new_stream, texts_of
from tests.support.processes.instance import eventually
from tests.support.servers.own_postgres import OwnPostgres

PATIENCE = 30.0
"""Fifteen seconds are promised."""

WRITER, POOLED = "ludoteca writer", "ludoteca"

_WAITING = """
SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = %s"""
_COMMIT = "SELECT pg_logical_emit_message(true, 'test', '')"


@pytest.fixture
def server() -> Iterator[OwnPostgres]:
    with OwnPostgres() as made:
        yield made


def demand_standby(server: OwnPostgres, name: str) -> None:
    """Have commits wait for this standby (empty: for none)."""
    server.run(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    server.run("SELECT pg_reload_conf()")
    while server.run("SHOW synchronous_standby_names") != [(name,)]:
        pass


async def waiting(server: OwnPostgres, name: str) -> int:
    """The process id of a session of this name whose commit waits for a standby."""
    found = await asyncio.to_thread(eventually, partial(server.run, _WAITING, [name]))
    return int(found[0][0])


async def test_a_commit_that_stopped_waiting_for_its_standby_is_not_acknowledged(
    server: OwnPostgres,
) -> None:
    """An operator cancels a statement that seems to hang: the server then reports success."""
    once = IdempotencyKey(uuid4())
    async with PostgresLog.open(server.url, CODEC) as log:
        await log.append([new_stream("before")])
        demand_standby(server, "away")
        appending = asyncio.create_task(log.append([new_stream("in doubt")], once=once))
        server.run("SELECT pg_cancel_backend(%s)", [await waiting(server, WRITER)])
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(LogUnavailable):
                await appending
        demand_standby(server, "")
        with pytest.raises(AlreadyDone):
            await log.append([new_stream("again")], once=once)
        assert texts_of(await log.read()) == ["before", "in doubt"]


@pytest.mark.parametrize("default", ["on", "off"])
async def test_a_commit_that_no_standby_has_is_not_reported_as_done(
    server: OwnPostgres, default: str
) -> None:
    """After a crash, the server shows what was committed here, and may be nowhere else. Whatever
    the database's default."""
    server.run(f"ALTER SYSTEM SET synchronous_commit = {default}")
    server.run("SELECT pg_reload_conf()")
    once = IdempotencyKey(uuid4())
    async with PostgresLog.open(server.url, CODEC) as log:
        await log.append([new_stream("before")])
        demand_standby(server, "away")
        appending = asyncio.create_task(log.append([new_stream("in doubt")], once=once))
        await waiting(server, WRITER)
        server.kill()
        server.start()
        asking = asyncio.create_task(log.done(once.key))
        await waiting(server, POOLED)
        assert texts_of(await log.read()) == ["before", "in doubt"]
        assert not asking.done()
        demand_standby(server, "")
        assert await asking is not None
        await asyncio.gather(appending, return_exceptions=True)  # it may have lost patience


async def test_nobody_waits_for_a_standby_for_ever(server: OwnPostgres) -> None:
    async def over_a_pool(*, watched: bool) -> None:
        async with (
            watching(server.url) as watch,
            open_pool(server.url, 1, watch=watch if watched else None) as pool,
            pool.connection() as conn,
        ):
            await conn.execute(_COMMIT)

    def in_a_thread() -> None:
        with connect(server.url, "ludoteca test") as conn:
            conn.execute(_COMMIT)

    demand_standby(server, "away")
    async with asyncio.timeout(PATIENCE):
        ended = await asyncio.gather(
            over_a_pool(watched=True),
            over_a_pool(watched=False),
            asyncio.to_thread(in_a_thread),
            return_exceptions=True,
        )
    assert [isinstance(each, psycopg.OperationalError) for each in ended] == [True] * 3, ended
