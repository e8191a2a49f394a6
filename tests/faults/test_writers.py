"""A writer whose sessions are cut, frozen and starved under load: no caller hangs, and every
acknowledged event is there."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Callable
from uuid import UUID

import psycopg
import pytest

from eventstore.append import pipeline
from eventstore.database import connections
from eventstore.log import LogUnavailable
from eventstore.postgres_log import PostgresLog
from runtime.processes import watching
from tests.support.events.notes import CODEC, admin, new_stream
from tests.support.servers.faulty_proxy import Proxy, Way
from tests.support.servers.own_postgres import OwnPostgres

CALLERS = 64
_OF_WRITERS = (
    "FROM pg_stat_activity WHERE application_name = 'ludoteca writer' AND datname ="
    " current_database()"
)

Cut = Callable[[Proxy, str], object]
CUTS: dict[str, Cut] = {
    "terminated": lambda _, database: admin(
        database, f"SELECT pg_terminate_backend(pid) {_OF_WRITERS}"
    ),
    "reset": lambda proxy, _: proxy.cut(),
    "closed": lambda proxy, _: proxy.close(),
    "half closed": lambda proxy, _: proxy.half_close(Way.TO_CLIENT),
    "frozen": lambda proxy, _: proxy.freeze(only_present=True),
    "frozen to the client": lambda proxy, _: proxy.freeze([Way.TO_CLIENT], only_present=True),
    "dropped": lambda proxy, _: proxy.drop([Way.TO_SERVER], only_present=True),
}
SLOW = ("frozen", "frozen to the client", "dropped")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is noticed after a moment."""
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(pipeline, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(pipeline, "LOOK_SECONDS", 0.2)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("cut", CUTS)
async def test_no_caller_hangs_and_nothing_acknowledged_is_lost(database: str, cut: str) -> None:
    await _cut_again_and_again(database, CUTS[cut], 3 if cut in SLOW else 10)


@pytest.mark.soak
@pytest.mark.parametrize(("cut", "times"), [("terminated", 150), ("reset", 100), ("frozen", 2)])
async def test_however_often(database: str, cut: str, times: int) -> None:
    await _cut_again_and_again(database, CUTS[cut], times)


async def _cut_again_and_again(database: str, cut: Cut, times: int) -> None:
    rng, acknowledged = random.Random(4), set[UUID]()
    with Proxy(database) as proxy:
        async with PostgresLog.open(proxy.url, CODEC) as log:

            async def caller() -> None:
                while True:
                    try:
                        acknowledged.update((await log.append([new_stream("x")])).event_ids)
                    except LogUnavailable:
                        await asyncio.sleep(0.01)

            async def one_more_is_acknowledged() -> None:
                before = len(acknowledged)
                while len(acknowledged) == before:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

            callers = [asyncio.create_task(caller()) for _ in range(CALLERS)]
            await asyncio.wait_for(one_more_is_acknowledged(), 20)
            for _ in range(times):
                await asyncio.sleep(rng.uniform(0.01, 0.1))
                await asyncio.to_thread(cut, proxy, database)
                await asyncio.wait_for(one_more_is_acknowledged(), 25)
            for task in callers:
                task.cancel()
            await asyncio.gather(*callers, return_exceptions=True)
    stored = {row[0] for row in admin(database, "SELECT event_id FROM log.events")}
    assert acknowledged <= stored


@pytest.mark.usefixtures("quick")
async def test_a_writer_is_proved_by_the_way_that_appends_go_and_makes_no_history(
    database: str,
) -> None:
    with Proxy(database) as proxy:
        async with PostgresLog.open(proxy.url, CODEC) as log:
            await log.append([new_stream("a")])
            await log.prove_writer()
            proxy.freeze()
            with pytest.raises(Exception, match=r"does not answer|timeout"):
                await log.prove_writer()
            proxy.heal()
            await log.prove_writer()
            assert await log.head() == 1


async def test_a_server_that_takes_no_writes_fails_the_proof_of_a_writer_at_rest() -> None:
    with OwnPostgres() as server:
        async with PostgresLog.open(server.url, CODEC) as log:
            await log.append([new_stream("a")])
            await log.prove_writer()
            server.read_only()
            with pytest.raises(Exception, match=r"takes no writes|read-only"):
                await _until_it_fails(log)
            server.writable()
            async with asyncio.timeout(10):
                while True:
                    try:
                        await log.prove_writer()
                        break
                    except Exception:
                        await asyncio.sleep(0.1)
            await log.append([new_stream("b")])


OBSTACLES = {
    "no right to append": (
        "REVOKE EXECUTE ON FUNCTION log.append_v4 FROM ludoteca_app",
        "GRANT EXECUTE ON FUNCTION log.append_v4 TO ludoteca_app",
    ),
    "no table": ("ALTER TABLE log.events RENAME TO away", "ALTER TABLE log.away RENAME TO events"),
    "a trigger that refuses": (
        (
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END"
            " $$;CREATE TRIGGER refuse BEFORE INSERT ON log.events FOR EACH ROW EXECUTE FUNCTION"
            " refuse()"
        ),
        "DROP TRIGGER refuse ON log.events; DROP FUNCTION refuse",
    ),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
async def test_while_no_append_is_taken_the_proof_of_a_writer_fails_and_then_succeeds_by_itself(
    database: str, obstacle: str
) -> None:
    begin, end = OBSTACLES[obstacle]
    async with PostgresLog.open(database, CODEC, watched=True) as log:
        await log.append([new_stream("a")])
        admin(database, begin)
        with pytest.raises((LogUnavailable, psycopg.Error)):
            await log.append([new_stream("b")])
        for another in (False, True, False):
            with pytest.raises(psycopg.Error):
                await log.prove_writer(another=another)
        admin(database, end)
        await log.prove_writer()
        assert await log.head() == 1
        assert (await log.append([new_stream("b")])).first_position == 2


async def test_a_proof_that_waits_for_the_end_of_the_log_holds_up_no_append_once_it_is_free(
    database: str,
) -> None:
    async with PostgresLog.open(database, CODEC) as log:
        await log.append([new_stream("a")])
        with psycopg.connect(database) as holding:
            holding.execute("SELECT pg_advisory_xact_lock(4910, 1)")
            for _ in range(5):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):  # as readiness, which is checked repeatedly
                        await log.prove_writer()
            assert len(log._writer._sender._pipeline._calls) == 1  # type: ignore[union-attr]
        await log.prove_writer()
        assert (await log.append([new_stream("b")])).first_position == 2


async def test_a_process_whose_writer_is_dead_though_another_would_not_be_ends(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("WRITER_SECONDS", 1.0), ("_LOOK_SECONDS", 0.2), ("_PROOF_SECONDS", 0.5)):
        monkeypatch.setattr(watching, name, seconds)
    with Proxy(database) as proxy:
        async with PostgresLog.open(proxy.url, CODEC) as log:
            proxy.refusing = True
            async with watching.watch_writer(log):  # the database is away: no reason to end
                await asyncio.sleep(2)
            proxy.heal()
            # as by a transaction that never ends
            await log._writer._sender._connecting.acquire()
            with pytest.raises(ExceptionGroup) as raised:
                await asyncio.wait_for(_for_ever_while(log), 20)
            assert raised.group_contains(watching.WriterDead)
            log._writer._sender._connecting.release()


async def test_a_proof_over_a_new_connection_leaves_nothing_behind(database: str) -> None:
    async with PostgresLog.open(database, CODEC) as log:
        told = len(log.history._forget)
        for _ in range(3):
            await log.prove_writer(another=True)
        assert len(log.history._forget) == told
        await _until_no_writer_is_connected(database)


@pytest.mark.parametrize("end", ["raises", "is cancelled"])
async def test_a_connection_that_could_not_be_set_up_is_closed(
    database: str, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    # kept: an unreferenced connection would be closed
    set_up: list[psycopg.AsyncConnection] = []

    async def check(conn: psycopg.AsyncConnection) -> None:
        set_up.append(conn)
        if end == "raises":
            raise psycopg.OperationalError("not now")
        await asyncio.Event().wait()

    async with PostgresLog.open(database, CODEC) as log:
        with monkeypatch.context() as patched:
            patched.setattr(log.history, "check", check)
            with pytest.raises((psycopg.OperationalError, TimeoutError)):
                async with asyncio.timeout(2):
                    await log.prove_writer()
            with pytest.raises((psycopg.OperationalError, TimeoutError)):
                async with asyncio.timeout(2):
                    await log._writer._sender._ask("SELECT 1")
        assert len(set_up) == 2
        await _until_no_writer_is_connected(database)
        await log.append([new_stream("a")])


async def _until_no_writer_is_connected(database: str) -> None:
    async with asyncio.timeout(10):
        while admin(database, f"SELECT 1 {_OF_WRITERS}"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _until_it_fails(log: PostgresLog) -> None:
    async with asyncio.timeout(10):
        while True:
            await log.prove_writer()
            await asyncio.sleep(0.05)


async def _for_ever_while(log: PostgresLog) -> None:
    async with watching.watch_writer(log):
        await asyncio.Event().wait()


_STANDS_STILL = """
import asyncio, logging, time
from runtime.processes.watching import LoopWatch
logging.basicConfig()
async def main():
    with LoopWatch(asyncio.get_running_loop(), seconds=2):
        await asyncio.sleep(3)
        time.sleep(60)
asyncio.run(main())
"""


def test_a_process_whose_event_loop_stands_still_says_where_and_ends() -> None:
    command = [sys.executable, "-c", _STANDS_STILL]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 70
    assert "the event loop has stood still for 2 s" in done.stderr
    assert "time.sleep(60)" in done.stderr or "in main" in done.stderr
