"""Unusual settings of a database or a role do not change what the program does."""

from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from eventstore.database.postgres import (
    UnsafeDatabase,
    check_server,
    connect,
    connect_async,
    open_pool,
)
from eventstore.log import IdempotencyKey
from eventstore.postgres_log import PostgresLog
from runtime.release.migrate import migrate
from tests.support.events.notes import CODEC, new_stream
from tests.support.servers import shared

HOSTILE = {
    "search_path": "pg_catalog",
    "TimeZone": "Asia/Kolkata",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "client_encoding": "LATIN1",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "standard_conforming_strings": "off",
    "bytea_output": "escape",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "row_security": "off",
    "gin_fuzzy_search_limit": "1",
    "extra_float_digits": "-10",
    "lc_numeric": "C",
    "statement_timeout": "1",
    "lock_timeout": "1",
    "idle_in_transaction_session_timeout": "1",
    "idle_session_timeout": "1",
    "transaction_timeout": "500",
    "synchronous_commit": "off",
    "default_tablespace": "nowhere",
    "enable_indexscan": "off",
    "plan_cache_mode": "force_custom_plan",
}
SHOWN = {
    "search_path": "read",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "transaction_isolation": "read committed",
    "client_encoding": "UTF8",
    "bytea_output": "hex",
    "array_nulls": "on",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "default_tablespace": "",
    "gin_fuzzy_search_limit": "0",
}


@pytest.fixture
def hostile(empty_database: str) -> str:
    """A database with every setting changed, by a role of its own; migrated under these
    settings."""
    name = urlsplit(empty_database).path.removeprefix("/")
    with psycopg.connect(empty_database, autocommit=True) as conn:
        for setting, value in HOSTILE.items():
            if setting == "transaction_timeout" and conn.info.server_version < 170000:
                continue
            conn.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(name), sql.Identifier(setting), sql.Literal(value)
                )
            )
    migrate(empty_database)
    return empty_database


async def test_every_connection_is_as_the_program_needs_it(hostile: str) -> None:
    async with await connect_async(hostile, "test") as asynchronous, open_pool(hostile, 1) as pool:
        with connect(hostile, "test") as conn:
            shown = {
                name: (conn.execute(f"SHOW {name}".encode()).fetchone() or ("",))[0]
                for name in SHOWN
            }
        assert shown == SHOWN
        async with pool.connection() as pooled:
            for other in (asynchronous, pooled):
                for name, value in SHOWN.items():
                    assert await (await other.execute(f"SHOW {name}".encode())).fetchone() == (
                        value,
                    )


async def test_appends_and_reads_are_as_ever(hostile: str) -> None:
    once = IdempotencyKey(uuid4(), b"\\x00'", {"a": "b"})
    async with PostgresLog.open(hostile, CODEC) as log:
        appended = await log.append([new_stream("x \\ 'é')")], once=once)
        (recorded,) = await log.read()
        assert recorded.env.recorded_at == appended.recorded_at
        assert (await log.done(once.key)) is not None


def test_a_server_that_may_lose_commits_is_refused_unless_allowed(database: str) -> None:
    with connect(database, "test", role="") as conn:  # the run's own: fsync = off
        check_server(conn, allow_unsafe=True)
        with pytest.raises(UnsafeDatabase, match="fsync = off and full_page_writes = off"):
            check_server(conn, allow_unsafe=False)


def test_a_database_of_another_encoding_or_whose_triggers_are_off_is_refused(
    postgres_url: str, database: str
) -> None:
    name = f"latin_{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE"
            " template0".encode()
        )
    latin = shared.at_database(postgres_url, name)
    try:
        with connect(latin, "test", role="") as conn, pytest.raises(UnsafeDatabase, match="LATIN1"):
            check_server(conn, allow_unsafe=True)
    finally:
        shared.drop_database(latin)
    with psycopg.connect(database, autocommit=True) as conn:
        of = urlsplit(database).path.removeprefix("/")
        conn.execute(f"ALTER DATABASE {of} SET session_replication_role = replica".encode())
    with (
        connect(database, "test", role="") as conn,
        pytest.raises(UnsafeDatabase, match="session_replication_role"),
    ):
        check_server(conn, allow_unsafe=True)
