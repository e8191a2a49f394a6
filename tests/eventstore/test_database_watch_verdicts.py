"""The watch over the database: its verdicts on single connections, and that every wait ends."""

import asyncio
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg import _conninfo_attempts_async as attempts
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from eventstore.database import connections, ways
from eventstore.database.connections import DatabaseAway
from eventstore.database.pooled import PooledConnection
from eventstore.database.postgres import connect_async, open_pool
from eventstore.database.watch import AWAY_SECONDS, DatabaseWatch, watching
from kit.circuit import FAILURES_TO_OPEN, Circuit
from tests.support.servers.faulty_proxy import Proxy, Way


@pytest.fixture
def proxy(database: str) -> Iterator[Proxy]:
    with Proxy(database) as made:
        yield made


async def ask(pool: AsyncConnectionPool, query: bytes = b"SELECT 1", *values: object) -> object:
    async with pool.connection() as conn:
        row = await (await conn.execute(query, values or None)).fetchone()
        return row and row[0]


async def until(watch: DatabaseWatch, away: bool) -> None:
    async with asyncio.timeout(10):
        while watch.away is not away:  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(0.01)


# -- slow statements and messages ------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "size"), [(0.01, 8_000_000), (0.06, 2_000_000)])
async def test_a_large_message_on_a_narrow_network_arrives(
    proxy: Proxy, seconds: float, size: int
) -> None:
    async with watching(proxy.url) as watch, open_pool(proxy.url, 2, watch=watch) as pool:
        await ask(pool)
        proxy.delay(seconds)  # of each 64 kB
        sent = asyncio.create_task(ask(pool, b"SELECT length(%s::text)", "x" * size))
        got = asyncio.create_task(ask(pool, b"SELECT repeat('x', %s)", size))
        assert await sent == size
        assert len(str(await got)) == size
        assert not watch.away


@pytest.mark.parametrize("way", Way)
async def test_a_large_message_that_stops_midway_is_given_up(proxy: Proxy, way: Way) -> None:
    async with watching(proxy.url) as watch, open_pool(proxy.url, 2, watch=watch) as pool:
        await ask(pool)
        proxy.delay(0.05)
        sent = asyncio.create_task(ask(pool, b"SELECT length(%s::text)", "x" * 3_000_000))
        got = asyncio.create_task(ask(pool, b"SELECT repeat('x', %s)", 3_000_000))
        await asyncio.sleep(0.4)
        proxy.freeze([way], only_present=True)
        start = time.monotonic()
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(sent if way is Way.TO_SERVER else got, 10)
        print(f"given up after {time.monotonic() - start:.2f} s")
        proxy.heal()
        await asyncio.gather(sent, got, return_exceptions=True)
        assert await asyncio.wait_for(ask(pool), 5) == 1


# -- waiters ---------------------------------------------------------------------------------------


async def test_a_transaction_that_is_ended_between_two_statements_ends_in_time(
    proxy: Proxy,
) -> None:
    async with watching(proxy.url) as watch, open_pool(proxy.url, 2, watch=watch) as pool:

        async def transact() -> None:
            with watch.while_there():
                async with pool.connection() as conn, conn.transaction():
                    await conn.execute("SELECT 1")
                    begun.set()
                    await asyncio.Event().wait()

        begun = asyncio.Event()
        task = asyncio.create_task(transact())
        await begun.wait()
        proxy.freeze()
        with pytest.raises((DatabaseAway, psycopg.OperationalError)):
            await asyncio.wait_for(task, 3)
        proxy.heal()


async def test_a_statement_that_begins_while_it_is_away_ends(proxy: Proxy) -> None:
    async with (
        watching(proxy.url) as watch,
        open_pool(proxy.url, 2, watch=watch) as pool,
        pool.connection() as conn,
    ):
        proxy.freeze()
        await until(watch, True)
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(conn.execute("SELECT 1"), 4 * AWAY_SECONDS)


@pytest.mark.parametrize("ways", [Way, [Way.TO_CLIENT]], ids=["both", "to client"])
async def test_a_connection_to_another_server_than_the_watchs_is_watched(
    database: str, proxy: Proxy, ways: list[Way]
) -> None:
    with Proxy(database) as second:
        joint = "&" if "?" in proxy.url else "?"
        url = f"{proxy.url}{joint}host=127.0.0.1,127.0.0.1&port={proxy.port},{second.port}"
        async with watching(url) as watch, open_pool(url, 1, watch=watch) as pool:
            await ask(pool)
            proxy.refusing = True  # to those who come
            async with pool.connection() as conn:
                await conn.close()
            await ask(pool)
            assert second.count == 1
            assert await ask(pool, b"SELECT count(pg_sleep(2))") == 1  # the server works on it
            second.freeze(ways, only_present=True)
            with pytest.raises(psycopg.OperationalError):
                await asyncio.wait_for(ask(pool, b"SELECT pg_sleep(0)"), 4)


async def test_a_silent_connection_is_given_up_while_the_server_refuses_others(
    database: str, postgres_url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(PooledConnection, "longest_seconds", 1.0)
    name = conninfo_to_dict(database)["dbname"]
    async with (
        await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as operator,
        watching(proxy.url) as watch,
        open_pool(proxy.url, 1, watch=watch) as pool,
    ):
        await ask(pool)
        await operator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        try:
            proxy.freeze(only_present=True)
            with pytest.raises(psycopg.OperationalError):
                await asyncio.wait_for(ask(pool, b"SELECT pg_sleep(0)"), 5)
            assert not watch.away
        finally:
            await operator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


async def test_a_watch_that_fails_begins_anew(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = asyncio.Event()

    def fail(*_: object) -> None:
        failed.set()
        raise ZeroDivisionError

    async with watching(proxy.url) as watch, open_pool(proxy.url, 1, watch=watch) as pool:
        await ask(pool)
        with monkeypatch.context() as patch:
            patch.setattr(watch, "_judge", fail)
            await asyncio.wait_for(failed.wait(), 5)
        proxy.freeze()
        await until(watch, True)
        proxy.heal()
        await until(watch, False)


async def test_without_its_watch_a_wait_ends_later(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 0.3)
    async with watching(proxy.url) as watch, open_pool(proxy.url, 1, watch=watch) as pool:
        await ask(pool)
        monkeypatch.setattr(watch, "_judge", lambda _: None)
        proxy.freeze(only_present=True)
        with pytest.raises(psycopg.OperationalError):
            await asyncio.wait_for(ask(pool), 5)


async def test_a_connection_is_hung_up_without_a_file_descriptor(database: str) -> None:
    async with await connect_async(database, "test") as conn:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            conn.hang_up()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with pytest.raises(psycopg.OperationalError):
            await conn.execute("SELECT 1")


# -- effects on other services ---------------------------------------------------------------------


async def test_what_is_ended_with_it_says_nothing_of_other_services(proxy: Proxy) -> None:
    circuit = Circuit("search", lambda _: True)

    async def search() -> None:
        with watch.while_there():
            async with circuit.calling():
                await asyncio.Event().wait()

    async with watching(proxy.url) as watch, open_pool(proxy.url, 2, watch=watch) as pool:
        await ask(pool)
        searches = [asyncio.create_task(search()) for _ in range(2 * FAILURES_TO_OPEN)]
        await asyncio.sleep(0)
        proxy.freeze()
        assert [type(one) for one in await asyncio.gather(*searches, return_exceptions=True)] == [
            DatabaseAway
        ] * 6
        async with circuit.calling():
            pass
        proxy.heal()


async def test_a_cancelled_statement_ends_at_the_server_too(database: str) -> None:
    async with watching(database) as watch, open_pool(database, 2, watch=watch) as pool:
        asking = [
            asyncio.create_task(ask(pool, b"SELECT 'cancelled', pg_sleep(15)")) for _ in range(2)
        ]
        async with (
            await psycopg.AsyncConnection.connect(database, autocommit=True) as operator,
            asyncio.timeout(8),
        ):
            while await (await operator.execute(_CANCELLED)).fetchone() != (2,):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)
            for task in asking:
                task.cancel()
            while await (await operator.execute(_CANCELLED)).fetchone() != (0,):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


_CANCELLED = b"""
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND query LIKE 'SELECT ''cancelled%'"""


# -- failures to connect that show nothing about the server ----------------------------------------


async def _nowhere(*_: object) -> str:
    raise psycopg.OperationalError("could not translate host name")


async def test_a_name_service_that_is_away_on_a_slow_network_is_no_outage(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(proxy.url) as watch, open_pool(proxy.url, 2, watch=watch) as pool:
        await ask(pool)
        proxy.delay(0.09)
        monkeypatch.setattr(ways.Ways, "current", _nowhere)
        for _ in range(3):
            assert await ask(pool, b"SELECT count(pg_sleep(0.4))") == 1
            assert not watch.away


async def test_a_watch_that_cannot_connect_again_is_no_outage_while_another_connection_is_answered(
    database: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(proxy.url) as watch, open_pool(proxy.url, 2, watch=watch) as pool:
        await asyncio.gather(*[ask(pool, b"SELECT pg_sleep(0.1)") for _ in range(2)])
        monkeypatch.setattr(ways.Ways, "current", _nowhere)
        asking = asyncio.create_task(ask(pool, b"SELECT count(pg_sleep(1.5))"))
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as operator:
            await operator.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'ludoteca watch'"
            )
        assert await asking == 1
        assert not watch.away
        proxy.freeze()
        await until(watch, True)
        proxy.heal()
        await until(watch, False)  # from what a connection of the pool received


# -- several addresses -----------------------------------------------------------------------------


@pytest.fixture
def deaf_first(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a host with two addresses; the first accepts connections and sends nothing."""
    addresses = ["127.0.0.2", "127.0.0.1"]

    async def resolve(host: str) -> list[str]:
        return addresses

    async def as_psycopg_does(params: dict[str, object]) -> list[dict[str, object]]:
        return (
            [params]
            if params.get("hostaddr")
            else [{**params, "hostaddr": address} for address in addresses]
        )

    monkeypatch.setattr(ways, "resolve", resolve)
    monkeypatch.setattr(attempts, "_resolve_hostnames", as_psycopg_does)
    with closing(socket.create_server((addresses[0], proxy.port))):
        yield proxy.url.replace("127.0.0.1", "database.example")


@pytest.mark.parametrize("named_by", ["url", "PGHOST", "service", "service in the url"])
async def test_the_address_that_answers_is_found(
    deaf_first: str, proxy: Proxy, named_by: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = deaf_first
    if named_by != "url":
        given = conninfo_to_dict(url)
        place = {name: given.pop(name) for name in ("host", "port")}
        url = "postgresql://?" + "&".join(f"{name}={value}" for name, value in given.items())
        (tmp_path / "services").write_text(
            "[shop]\n" + "".join(f"{name}={value}\n" for name, value in place.items())
        )
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        if named_by == "PGHOST":
            monkeypatch.setenv("PGHOST", str(place["host"]))
            monkeypatch.setenv("PGPORT", str(place["port"]))
        elif named_by == "service":
            monkeypatch.setenv("PGSERVICE", "shop")
        else:
            url += "&service=shop"
    async with watching(url) as watch, open_pool(url, 2, watch=watch) as pool:
        start = time.monotonic()
        assert await asyncio.wait_for(ask(pool), 5) == 1
        print(f"first answer after {time.monotonic() - start:.2f} s")
        proxy.cut()
        with suppress(psycopg.Error):
            await ask(pool)
        assert await asyncio.wait_for(ask(pool), 5) == 1
        assert os.environ.get("PGSERVICE") == ("shop" if named_by == "service" else None)
