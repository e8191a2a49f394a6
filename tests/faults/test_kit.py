"""The fault tools themselves: a test whose fault does not happen proves nothing."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.support.servers.faulty_proxy import Proxy, Way
from tests.support.servers.own_postgres import OwnPostgres


def _connected(url: str) -> psycopg.Connection:
    return psycopg.connect(url, autocommit=True, connect_timeout=2)


def test_a_proxy_cuts_closes_and_half_closes(postgres_url: str) -> None:
    with Proxy(postgres_url) as proxy:
        for fault in (proxy.cut, proxy.close, lambda: proxy.half_close(Way.TO_SERVER)):
            with _connected(proxy.url) as conn:
                assert conn.execute("SELECT 1").fetchone() == (1,)
                fault()
                with pytest.raises(psycopg.OperationalError):
                    conn.execute("SELECT 1")
        assert _connected(proxy.url).execute("SELECT 2").fetchone() == (2,)
        proxy.refusing = True
        with pytest.raises(psycopg.OperationalError):
            _connected(proxy.url)


def _one(conn: psycopg.Connection) -> object:
    return conn.execute("SELECT 1").fetchone()


@pytest.mark.parametrize("way", list(Way))
def test_a_proxy_freezes_and_passes_on_what_it_held_back(postgres_url: str, way: Way) -> None:
    with (
        Proxy(postgres_url) as proxy,
        _connected(proxy.url) as conn,
        ThreadPoolExecutor() as threads,
    ):
        proxy.freeze([way])
        answer = threads.submit(_one, conn)
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            _connected(proxy.url)
        assert not answer.done()
        proxy.heal()
        assert answer.result(10) == (1,)


def test_a_proxy_delays_and_drops_silently(postgres_url: str) -> None:
    with (
        Proxy(postgres_url) as proxy,
        _connected(proxy.url) as conn,
        ThreadPoolExecutor() as threads,
    ):
        proxy.delay(0.2)
        start = time.monotonic()
        _one(conn)
        assert time.monotonic() - start > 0.3
        proxy.drop([Way.TO_SERVER], only_present=True)
        answer = threads.submit(_one, conn)
        with pytest.raises(TimeoutError):
            answer.result(0.5)
        assert _one(_connected(proxy.url)) == (1,)
        proxy.cut()
        with pytest.raises(psycopg.OperationalError):
            answer.result(10)


def test_a_server_of_ones_own_can_be_read_only_paused_killed_and_full() -> None:
    with OwnPostgres(disk_mb=160) as server:
        server.run("CREATE TABLE t (x text)")
        server.read_only()
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            server.run("INSERT INTO t VALUES ('a')")
        server.writable()
        server.run("INSERT INTO t VALUES ('a')")
        server.pause()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            _connected(server.url)
        server.go_on()
        server.fill(leave_kb=1024)
        with pytest.raises(psycopg.OperationalError):
            server.run(
                "INSERT INTO t SELECT repeat(md5(n::text), 100) FROM generate_series(1, 100000) n"
            )
        server.free()
        server.kill()
        server.start()
        assert server.run("SELECT count(*) FROM t") == [(1,)]
