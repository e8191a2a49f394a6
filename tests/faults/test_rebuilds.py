"""Rebuild and verify beside an open shop: bounded memory, no standstill, and a crash at any step
does no harm."""

import asyncio
import random
import subprocess
import sys
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from eventstore.consumers import checkpoints, quarantine
from eventstore.log import StreamAppend
from projections.engine import rebuild, replaying
from projections.engine.rebuild import Rebuilt
from projections.engine.runner import Registered
from projections.engine.tables import PostgresTable
from tests.support import ROOT
from tests.support.events.tallies import (
    CODEC,
    Closed,
    Counted,
    Labelled,
    Tallies,
    Tally,
    tallies,
    uses,
)
from tests.support.processes.rebuild import STEPS
from tests.support.quarantine import request_retry
from tests.support.shops.engine import Desk


def _rebuild(desk: Desk, registered: Registered) -> Rebuilt:
    with desk.connect() as conn:
        return rebuild.rebuild(conn, CODEC, registered, lambda _done, _all: None)


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replays use small pages that hold hardly a row."""
    monkeypatch.setattr(replaying, "PAGE", 7)
    monkeypatch.setattr(replaying, "HELD_BYTES", 1_000)


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("little_memory")
async def test_rows_that_do_not_fit_into_memory_are_the_same(desk: Desk, seed: int) -> None:
    """Rows appear, change, vanish and reappear, some fed by several streams, and some events cannot
    be applied; meanwhile most rows are written out and read again."""
    chance, projection = random.Random(seed), Tallies()
    projection.refuses = {13}
    registered, shared = Registered(projection, PostgresTable(Tally)), uses()
    streams = [uuid4() for _ in range(12)]
    for _ in range(200):
        stream = chance.choice(streams)
        match chance.randrange(6):
            case 0:
                await desk.append(stream, Closed())
            case 1:
                await desk.append(stream, Counted(1), Labelled(chance.choice("abc")))
            case 2:
                await desk.append(stream, Counted(13 if chance.random() < 0.1 else 2), Counted(3))
            case _:
                await desk.append(stream, Counted(chance.randrange(12)))
    with desk.running(registered, shared):
        await desk.caught_up("tallies.1", "uses.1")
        assert desk.quarantined(), "some events cannot be applied"
        for each in (registered, shared):
            live = desk.rows(each)
            verified = await asyncio.to_thread(desk.verify, each)
            assert (verified.difference.equal, verified.difference.stored) == (True, len(live))
            await asyncio.to_thread(_rebuild, desk, each)
            assert desk.rows(each) == live


@pytest.mark.usefixtures("little_memory")
async def test_verify_names_the_rows_that_differ_when_they_do_not_fit_into_memory(
    desk: Desk,
) -> None:
    registered, streams = tallies(), [uuid4() for _ in range(40)]
    with desk.running(registered):
        await desk.log.append([StreamAppend(stream, 0, [Counted(1)]) for stream in streams])
        await desk.caught_up("tallies.1")
    desk.execute("UPDATE read.tallies_1 SET total = 9 WHERE tally_id = %s", streams[3])
    desk.execute("DELETE FROM read.tallies_1 WHERE tally_id = %s", streams[4])
    assert set(desk.verify(registered).difference.keys) == {str(streams[3]), str(streams[4])}


MEASURE = """
import resource, sys
from tests.support.events.tallies import CODEC, tallies
from eventstore.database.postgres import connect
from projections.engine import rebuild, replaying
replaying.HELD_BYTES = 4_000_000
replaying.PAGE = 5_000
with connect(sys.argv[1], "test") as conn:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    getattr(rebuild, sys.argv[2])(conn, CODEC, tallies(), lambda _done, _all: None)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.soak
@pytest.mark.parametrize("what", ["verify", "rebuild"])
async def test_memory_does_not_grow_with_the_rows(desk: Desk, what: str) -> None:
    """100,000 rows take as much as 20,000, and at most 20 MB; all of them would take 50 MB more."""
    took: list[Any] = []
    for more in (20_000, 80_000):
        for _ in range(more // 1_000):
            await desk.log.append([StreamAppend(uuid4(), 0, [Counted(1)]) for _ in range(1_000)])
        with desk.running(tallies()):
            await desk.caught_up(
                next(name for name, row in desk.subscriptions().items() if row.active)
                if took
                else "tallies.1"
            )
            took.append(await asyncio.to_thread(_grown_by, desk.database, what))
    assert took[1] < took[0] + 20_000  # kB


def _grown_by(database: str, what: str) -> int:
    """How many kB a process grows by."""
    command = [sys.executable, "-c", MEASURE, database, what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return int(done.stdout)


# -- patience --------------------------------------------------------------------------------------


class WatchedTable(PostgresTable[Any]):
    """A table that, whenever its rows are hashed, checks that the live subscription advances, and
    so is not held up."""

    desk: Desk
    loop: asyncio.AbstractEventLoop

    def digest(self, conn: psycopg.Connection, storage: str) -> tuple[int, str]:
        asyncio.run_coroutine_threadsafe(self._move(), self.loop).result(20)
        return super().digest(conn, storage)

    async def _move(self) -> None:
        await self.desk.append(uuid4(), Counted(1))
        await self.desk.caught_up("tallies.1")


async def test_the_live_feed_goes_on_while_a_rebuild_hashes_the_rows(desk: Desk) -> None:
    table = WatchedTable(Tally)
    table.desk = desk
    table.loop = asyncio.get_running_loop()
    registered = Registered(Tallies(), table)
    with desk.running(registered):
        await desk.append(uuid4(), Counted(1))
        await desk.caught_up("tallies.1")
        rebuilt = await asyncio.to_thread(_rebuild, desk, registered)
        await desk.caught_up("tallies.1", "tallies.1.r1")
    assert rebuilt.rows == 1, "as of the moment that both were compared at"
    assert len(desk.rows(registered)) == 3
    assert desk.verify(tallies()).difference.equal


@pytest.mark.parametrize("what", ["verify", "rebuild"])
@pytest.mark.usefixtures("little_memory")
async def test_no_transaction_is_open_while_the_log_is_folded(desk: Desk, what: str) -> None:
    """A snapshot held while the whole log is read would keep all dead rows of the database."""
    registered = tallies()
    with desk.running(registered), desk.connect() as conn, desk.connect(role="") as watch:
        await desk.log.append([StreamAppend(uuid4(), 0, [Counted(1)]) for _ in range(100)])
        await desk.caught_up("tallies.1")
        seen = set()

        def look(_done: int, _all: int) -> None:
            query = "SELECT state, backend_xmin IS NOT NULL FROM pg_stat_activity WHERE pid = %s"
            seen.add(watch.execute(query, (conn.info.backend_pid,)).fetchone())

        await asyncio.to_thread(getattr(rebuild, what), conn, CODEC, registered, look)
    assert seen == {("idle", False)}


async def test_a_verify_during_which_a_stream_is_let_go_of_quarantine_is_right(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    projection, bad = Tallies(), uuid4()
    projection.refuses = {13}
    registered = Registered(projection, PostgresTable(Tally))
    with desk.running(registered):
        await desk.append(bad, Counted(1), Counted(13))
        await desk.caught_up("tallies.1")
        projection.refuses.clear()
        compare = rebuild._compare
        tries: list[int] = []

        def compare_later(conn: psycopg.Connection, *values: Any) -> Any:
            if not tries:
                request_retry(conn)
                while quarantine.held(conn):
                    pass
            tries.append(1)
            return compare(conn, *values)

        monkeypatch.setattr(rebuild, "_compare", compare_later)
        verified = await asyncio.to_thread(desk.verify, registered)
    assert (verified.difference.equal, verified.quarantined, len(tries)) == (True, 0, 2)


async def test_a_verify_that_cannot_apply_what_the_live_feed_could_ends_and_names_the_stream(
    desk: Desk,
) -> None:
    """It used to read the log again, for ever. Here the rows happen to be equal."""
    projection, stream = Tallies(), uuid4()
    registered = Registered(projection, PostgresTable(Tally))
    with desk.running(registered):
        await desk.append(stream, Counted(13), Closed())
        await desk.caught_up("tallies.1")
    projection.refuses = {13}
    verified = desk.verify(registered)
    assert (verified.difference.equal, verified.difference.keys) == (False, [f"stream {stream}"])


async def test_a_switch_whose_last_steps_are_rolled_back_is_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered, stream = tallies(), uuid4()
    await desk.append(stream, Counted(1))
    activate, tries = checkpoints.activate, list[str]()
    with desk.running(registered), desk.connect() as conn:
        await desk.caught_up("tallies.1")
        compare = rebuild._compare

        def compare_and_go_on(*values: Any) -> Any:
            compared = compare(*values)
            asyncio.run_coroutine_threadsafe(desk.append(stream, Counted(2)), loop).result()
            while (
                subscription := checkpoints.subscription(conn, "tallies.1")
            ) is None or subscription.position < 2:
                pass
            return compared

        def lock_is_not_to_be_had(conn: psycopg.Connection, old: str, new: str) -> None:
            tries.append(new)
            if len(tries) == 1:
                raise psycopg.errors.LockNotAvailable
            activate(conn, old, new)

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(rebuild, "_compare", compare_and_go_on)
        monkeypatch.setattr(checkpoints, "activate", lock_is_not_to_be_had)
        await asyncio.to_thread(rebuild.rebuild, conn, CODEC, registered, lambda _done, _all: None)
    assert len(tries) == 2
    assert desk.rows(registered)[stream].steps == [1, 2]


# -- others ----------------------------------------------------------------------------------------


async def test_somebody_who_reads_the_old_storage_does_not_hold_up_a_rebuild(desk: Desk) -> None:
    """Like pg_dump and long queries. The storage is no longer fed, and the next rebuild drops
    it."""
    registered, stream = tallies(), uuid4()
    with desk.running(registered, uses()):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")
        await asyncio.to_thread(_rebuild, desk, registered)
        with desk.connect() as reader, reader.transaction():
            reader.execute("SELECT count(*) FROM read.tallies_1")
            rebuilt = await asyncio.to_thread(_rebuild, desk, registered)
            assert rebuilt.storage == "tallies_1_r2"
            await desk.append(stream, Counted(2))
            await desk.caught_up("tallies.1.r1", "tallies.1.r2", "uses.1")
            assert desk.subscriptions()["tallies.1"].position < await desk.log.head(), (
                "nobody feeds it"
            )
        await asyncio.to_thread(_rebuild, desk, registered)
        await desk.caught_up("uses.1")
    assert {row.storage for row in desk.subscriptions().values()} == {
        "tallies_1_r2",
        "tallies_1_r1",
        "uses_1",
    }
    assert desk.execute(
        "SELECT count(*) FROM pg_class WHERE relname ~ '^tallies_1(_r[0-9]+)?$'"
    ) == [(2,)]


async def test_a_rebuild_of_what_is_paused_stays_paused(desk: Desk) -> None:
    registered, stream = tallies(), uuid4()
    with desk.running(registered):
        await desk.append(stream, Counted(1))
        position = await desk.caught_up("tallies.1")
        desk.execute(f"UPDATE consumers.feeds SET paused = true; NOTIFY {checkpoints.WAKE}")
        # the projector has released it
        await desk.until(lambda conn: checkpoints.try_lead(conn, "tallies.1"))
        await desk.append(stream, Counted(2))
        await asyncio.to_thread(_rebuild, desk, registered)
        assert {(row.position, row.paused) for row in desk.subscriptions().values()} == {
            (position, True)
        }
        desk.execute(f"UPDATE consumers.feeds SET paused = false; NOTIFY {checkpoints.WAKE}")
        await desk.caught_up("tallies.1", "tallies.1.r1")
    assert desk.rows(registered)[stream].steps == [1, 2]


@pytest.mark.parametrize("step", STEPS)
async def test_a_rebuild_may_be_killed_at_any_step(desk: Desk, step: str) -> None:
    registered = tallies()
    with desk.running(registered):
        await desk.log.append(
            [StreamAppend(uuid4(), 0, [Counted(1), Labelled("a")]) for _ in range(20)]
        )
        await desk.append(UUID(int=1), Labelled("no such row"))
        await desk.caught_up("tallies.1")
        await _killed(desk, step)
        active = [name for name, row in desk.subscriptions().items() if row.active]
        assert active == ["tallies.1.r1" if step == "after the switch" else "tallies.1"]
        await desk.append(uuid4(), Counted(2))
        await desk.caught_up(*active)
        assert len(desk.rows(registered)) == 21
        await asyncio.to_thread(_rebuild, desk, registered)
        await desk.append(uuid4(), Counted(3))
        names = [name for name, row in desk.subscriptions().items() if not row.building]
        await desk.caught_up(*names)
        assert len(names) == 2
    assert len(desk.rows(registered)) == 22
    assert desk.verify(registered).difference.equal


async def _killed(desk: Desk, step: str) -> None:
    command = [sys.executable, "-m", "tests.support.processes.rebuild", desk.database, step]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    assert await asyncio.wait_for(process.wait(), 20) == -9
