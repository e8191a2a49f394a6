"""The log through pgbouncer in transaction mode, and what is told of one that is set wrongly."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from eventstore.database.pooler import check_pooler, open_pool_through
from eventstore.database.postgres import UnsafeDatabase, connect, is_away
from eventstore.log import StreamAppend, VersionConflict
from eventstore.postgres_log import PostgresLog
from runtime.database.instance import database_url, pooler_url
from runtime.release.migrate import prepare_database
from runtime.settings import Settings
from tests.support.events.notes import CODEC, Counted
from tests.support.processes.program import Process, started
from tests.support.servers.pgbouncer import SESSION, PgBouncer


@pytest.fixture
def bouncer(database: str) -> Iterator[PgBouncer]:
    with PgBouncer(database) as started:
        yield started


@asynccontextmanager
async def opened(database: str, bouncer: PgBouncer) -> AsyncIterator[PostgresLog]:
    async with PostgresLog.open(
        database, CODEC, pool_size=4, watched=True, pooler=bouncer.url
    ) as log:
        yield log


def test_settings_say_which_url_leads_where(database: str, bouncer: PgBouncer) -> None:
    through = Settings(database_url=bouncer.url, direct_url=database)
    assert (database_url(through), pooler_url(through)) == (database, bouncer.url)
    prepare_database(database_url(through), through)
    straight = Settings(database_url=database)
    assert (database_url(straight), pooler_url(straight)) == (database, "")


@pytest.mark.parametrize("ignored", ["", "options"])
def test_a_pooler_without_a_direct_url_is_told_in_one_line(database: str, ignored: str) -> None:
    with PgBouncer(database, ignore_startup_parameters=ignored) as bouncer:
        settings = Settings(database_url=bouncer.url)
        with pytest.raises(UnsafeDatabase, match="set LUDOTECA_DIRECT_URL"):
            prepare_database(database_url(settings), settings)


def test_a_pooler_whose_sessions_are_not_as_they_must_be_is_told_what_to_set(
    database: str,
) -> None:
    with PgBouncer(database, connect_query="") as bouncer:
        with pytest.raises(UnsafeDatabase) as told:
            check_pooler(bouncer.url)
        assert "connect_query='SET role = ''ludoteca_app''; SET search_path" in str(told.value)
        with connect(database, "test", role="") as conn:
            name = conninfo_to_dict(database)["dbname"]
            conn.execute(f'ALTER DATABASE "{name}" SET bytea_output = escape'.encode())
        bouncer.kill()
        bouncer.configure(SESSION)
        bouncer.start()
        with pytest.raises(UnsafeDatabase, match="SET bytea_output = ''hex''"):
            check_pooler(bouncer.url)
        bouncer.kill()
        bouncer.configure(f"{SESSION}; SET bytea_output = 'hex'")
        bouncer.start()
        check_pooler(bouncer.url)


async def test_the_log_works_as_without(database: str, bouncer: PgBouncer) -> None:
    stream = uuid4()
    async with opened(database, bouncer) as log:
        for n in range(20):
            seen = asyncio.create_task(log.watcher.beyond(n))
            appended = await log.append([StreamAppend(stream, n, [Counted(by=1)])])
            assert appended.position == n + 1
            assert await seen == n + 1
            assert await log.versions([stream]) == [n + 1]
        many = await asyncio.gather(*(log.read_stream(stream) for _ in range(20)))
        assert [len(events) for events in many] == [20] * 20
        with pytest.raises(VersionConflict):
            await log.append([StreamAppend(stream, 5, [Counted(by=1)])])


async def test_statements_run_as_the_programs_role_and_in_utc(
    database: str, bouncer: PgBouncer
) -> None:
    asked = "SELECT current_user::text, now()::text LIKE '%%+00', current_setting('search_path')"
    async with open_pool_through(bouncer.url, 3) as pool:
        for _ in range(10):  # more than a connection is prepared after
            async with pool.connection() as one, pool.connection() as other:
                for conn in (one, other):
                    found = await (await conn.execute(asked, ())).fetchone()
                    assert found == ("ludoteca_app", True, "read")


async def test_statements_are_prepared_only_where_the_pooler_keeps_them(database: str) -> None:
    """All clients share one session of the server, and then many."""
    with PgBouncer(database, default_pool_size="1") as bouncer:
        for _ in range(3):
            async with open_pool_through(bouncer.url, 2) as pool, pool.connection() as conn:
                assert (conn.prepare_threshold is not None) == bouncer.prepares
    with PgBouncer(database) as bouncer:
        async with open_pool_through(bouncer.url, 8) as pool:

            async def ask(n: int) -> None:
                for _ in range(20):
                    async with pool.connection() as conn:
                        for m in range(n, n + 20):  # more than are kept, by all together
                            query = f"SELECT {m} + %s FROM pg_sleep(0)".encode()
                            found = await (await conn.execute(query, (1,))).fetchone()
                            assert found == (m + 1,)

            await asyncio.gather(*(ask(n) for n in range(0, 160, 20)))


async def test_a_statement_that_takes_long_is_no_silence(database: str, bouncer: PgBouncer) -> None:
    async with opened(database, bouncer) as log, log.pool.connection() as conn:
        await conn.execute("SELECT pg_sleep(3)")


async def test_a_pooler_that_is_killed_or_hangs_ends_no_append_and_is_used_again(
    database: str, bouncer: PgBouncer
) -> None:
    stream = uuid4()
    async with opened(database, bouncer) as log:
        for n, stop, go_on in (
            (0, bouncer.kill, bouncer.start),
            (2, bouncer.freeze, bouncer.go_on),
        ):
            await log.append([StreamAppend(stream, n, [Counted(by=1)])])
            assert await log.versions([stream]) == [n + 1]
            stop()
            with pytest.raises(psycopg.OperationalError) as away:
                async with asyncio.timeout(20):
                    await log.versions([stream])
            assert is_away(away.value)
            await log.append([StreamAppend(stream, n + 1, [Counted(by=1)])])
            await asyncio.to_thread(go_on)
            await until_it_answers(log)
            assert await log.versions([stream]) == [n + 2]


async def until_it_answers(log: PostgresLog) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await log.head()
            except psycopg.OperationalError:
                continue
            return


def test_a_process_ends_with_its_code(database: str, bouncer: PgBouncer, tmp_path: Path) -> None:
    with started(Process("projector", tmp_path, bouncer.url)) as (projector,):
        assert projector.popen.wait(60) == 3
        assert projector.said.strip().count("\n") == 0
        assert "set LUDOTECA_DIRECT_URL" in projector.said
