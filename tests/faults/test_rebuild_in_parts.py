"""A rebuild by several processes gives the rows that one process gives, and does no harm when any
of them is killed."""

import asyncio
import random
import sys
from uuid import uuid4

import psycopg
import pytest

from eventstore.log import StreamAppend
from projections.engine import parts
from projections.engine.folding import RowsRefused, StoreFailed
from projections.engine.runner import Registered
from projections.engine.tables import PostgresTable
from tests.support import ROOT
from tests.support.events.tallies import Closed, Counted, Labelled, Tallies, Tally, tallies, uses
from tests.support.processes.rebuild_in_parts import LOGS, STEPS
from tests.support.shops.engine import Desk


async def _rebuilt(desk: Desk, projection: str, *kill: str) -> int:
    """The exit code of a process that rebuilds in parts."""
    module = "tests.support.processes.rebuild_in_parts"
    command = [sys.executable, "-m", module, desk.database, projection, *kill]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    return await asyncio.wait_for(process.wait(), 30)


@pytest.mark.parametrize("seed", range(2))
async def test_the_rows_are_those_that_one_process_folds(desk: Desk, seed: int) -> None:
    """Rows appear, change, vanish and reappear, are written out and read again; some events cannot
    be applied, and events are appended meanwhile."""
    chance, projection = random.Random(seed), Tallies()
    projection.refuses = {13}
    registered, shared = Registered(projection, PostgresTable(Tally)), uses()
    streams = [uuid4() for _ in range(30)]

    async def history(length: int) -> None:
        for _ in range(length):
            stream = chance.choice(streams)
            match chance.randrange(6):
                case 0:
                    await desk.append(stream, Closed())
                case 1:
                    await desk.append(stream, Counted(1), Labelled(chance.choice("abc")))
                case 2:
                    by = 13 if chance.random() < 0.1 else 2
                    await desk.append(stream, Counted(by), Counted(3))
                case _:
                    await desk.append(stream, Counted(chance.randrange(12)))

    await history(200)
    with desk.running(registered, shared):
        await desk.caught_up("tallies.1", "uses.1")
        assert desk.quarantined(), "some events cannot be applied"
        going_on = asyncio.create_task(history(100))
        assert [await _rebuilt(desk, "tallies"), await _rebuilt(desk, "uses")] == [0, 0]
        await going_on
        await desk.caught_up("tallies.1", "tallies.1.r1", "uses.1", "uses.1.r1")
        for each, storages in ((registered, "tallies_1"), (shared, "uses_1")):
            assert desk.rows(each, storages) == desk.rows(each, f"{storages}_r1") == desk.rows(each)
            verified = await asyncio.to_thread(desk.verify, each)
            assert verified.difference.equal
            assert verified.difference.stored > 0


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("who", ["part", "starter"])
async def test_any_process_may_be_killed_at_any_step(desk: Desk, step: str, who: str) -> None:
    registered = tallies()
    with desk.running(registered):
        for _ in range(2):
            await desk.log.append([StreamAppend(uuid4(), 0, [Counted(1)] * 3) for _ in range(30)])
        await desk.caught_up("tallies.1")
        assert await _rebuilt(desk, "tallies", step, who) == (3 if who == "part" else -9)
        assert [name for name, row in desk.subscriptions().items() if row.active] == ["tallies.1"]
        assert await _rebuilt(desk, "tallies") == 0
        names = [name for name, row in desk.subscriptions().items() if not row.building]
        await desk.append(uuid4(), Counted(2))
        await desk.caught_up(*names)
    assert len(names) == 2
    assert len(desk.rows(registered)) == 61
    assert desk.verify(registered).difference.equal


async def test_a_process_does_not_wait_for_the_terminal_of_the_one_that_started_it(
    desk: Desk,
) -> None:
    """A progress bar's thread may hold a lock of it when the process is forked."""
    with desk.running(tallies()):
        for _ in range(2):
            await desk.log.append([StreamAppend(uuid4(), 0, [Counted(1)] * 3) for _ in range(30)])
        await desk.caught_up("tallies.1")
        assert await _rebuilt(desk, "tallies", LOGS) == 0


def test_the_error_of_a_process_is_passed_on_or_printed() -> None:
    refused = parts.portable(psycopg.errors.CheckViolation("no"))
    assert (type(refused), str(refused)) == (psycopg.errors.CheckViolation, "no")
    told = parts.portable(RowsRefused("these rows", [1]))
    assert isinstance(told, StoreFailed)
    assert "these rows" in str(told)
