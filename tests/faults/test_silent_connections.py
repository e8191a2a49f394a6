"""A network or a server falls silent: those who wait for an answer get an error; slow work
continues."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest

from eventstore.database import connections, pooled
from eventstore.database.postgres import connect, connect_async, open_pool
from tests.support.servers.faulty_proxy import BOTH, Proxy, Way
from tests.support.servers.own_postgres import OwnPostgres

BOUND = 15.0
"""Seconds within which a waiter gets an error, with the default settings; tests that wait that long
are soak tests."""

FAULTS: dict[str, Callable[[Proxy], None]] = {
    "frozen": lambda proxy: proxy.freeze(only_present=True),
    "frozen to the server": lambda proxy: proxy.freeze([Way.TO_SERVER], only_present=True),
    "frozen to the client": lambda proxy: proxy.freeze([Way.TO_CLIENT], only_present=True),
    "dropped": lambda proxy: proxy.drop(only_present=True),
    "dropped to the client": lambda proxy: proxy.drop([Way.TO_CLIENT], only_present=True),
    "half closed": lambda proxy: proxy.half_close(Way.TO_CLIENT),
    "reset": Proxy.cut,
    "closed": Proxy.close,
    "wholly frozen": lambda proxy: proxy.freeze(BOTH),
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time after which a waiter asks the server."""
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(connections, "INQUIRY_SECONDS", 2)
    monkeypatch.setattr(pooled, "PROOF_SECONDS", 0.5)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_statement_ends_whatever_happens_to_its_connection(
    database: str, fault: str
) -> None:
    with Proxy(database) as proxy, connect(proxy.url, "test") as conn:
        async with await connect_async(proxy.url, "test") as other:
            FAULTS[fault](proxy)
            async with asyncio.timeout(BOUND):
                outcomes = await asyncio.gather(
                    asyncio.to_thread(conn.execute, "SELECT 1"),
                    other.execute("SELECT 1"),
                    return_exceptions=True,
                )
            assert [type(outcome) for outcome in outcomes] == [psycopg.OperationalError] * 2
            assert conn.closed
            assert other.closed


@pytest.mark.usefixtures("quick")
async def test_a_long_statement_is_waited_for(database: str) -> None:
    with Proxy(database) as proxy, connect(proxy.url, "test") as conn:
        async with await connect_async(proxy.url, "test") as other:
            await asyncio.gather(
                asyncio.to_thread(conn.execute, "SELECT pg_sleep(3)"),
                other.execute("SELECT pg_sleep(3)"),
            )
            assert (await (await other.execute("SELECT 1")).fetchone()) == (1,)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "wholly frozen"])
async def test_a_pool_replaces_what_fell_silent(database: str, fault: str) -> None:
    with Proxy(database) as proxy:
        async with open_pool(proxy.url, 4) as pool:

            async def ask() -> object:
                async with pool.connection() as conn:
                    return await (
                        await conn.execute("SELECT pg_backend_pid(), pg_sleep(0.05)")
                    ).fetchone()

            await asyncio.gather(*[ask() for _ in range(4)])
            FAULTS[fault](proxy)
            async with asyncio.timeout(BOUND):
                await asyncio.gather(*[ask() for _ in range(8)], return_exceptions=True)
                await asyncio.gather(*[ask() for _ in range(8)])


async def test_a_pool_reads_from_a_read_only_server_and_writes_again_when_it_may() -> None:
    with OwnPostgres() as server, Proxy(server.url) as proxy:
        async with open_pool(proxy.url, 2) as pool:

            async def ask(query: bytes) -> object:
                async with pool.connection() as conn:
                    return await (await conn.execute(query)).fetchone()

            async def until_it_can(query: bytes) -> None:
                async with asyncio.timeout(15):
                    while True:
                        try:
                            await ask(query)
                            return
                        except psycopg.Error:
                            await asyncio.sleep(0.1)

            server.read_only()
            proxy.cut()
            await until_it_can(b"SELECT count(*) FROM log.events")
            server.writable()
            await until_it_can(
                b"INSERT INTO consumers.refusals SELECT * FROM consumers.refusals RETURNING 1"
            )


@pytest.mark.soak
async def test_a_silent_server_is_noticed_within_fifteen_seconds_and_used_again_once_back() -> None:
    with OwnPostgres() as server, Proxy(server.url) as proxy:
        async with open_pool(proxy.url, 2) as pool:

            async def ask() -> object:
                async with pool.connection() as conn:
                    return await (await conn.execute("SELECT 1")).fetchone()

            await ask()
            for fault, end in (
                (proxy.freeze, proxy.heal),
                (server.pause, server.go_on),
                (proxy.drop, proxy.heal),
            ):
                fault()
                start = asyncio.get_running_loop().time()
                outcomes = await asyncio.gather(*[ask() for _ in range(6)], return_exceptions=True)
                # the promised bound, and some more for a busy machine
                assert asyncio.get_running_loop().time() - start < BOUND + 5
                assert all(isinstance(outcome, psycopg.OperationalError) for outcome in outcomes), (
                    outcomes
                )
                end()
                async with asyncio.timeout(10):
                    while True:
                        try:
                            assert await ask() == (1,)
                            break
                        except psycopg.OperationalError:
                            await asyncio.sleep(0.1)
