"""Several read models rebuilt at a time, each in a process of its own."""

import asyncio
import os
import signal
from uuid import uuid4

import pytest

from eventstore.log import StreamAppend
from projections.engine.parts import ProcessDied
from projections.engine.rebuild import Rebuilt, rebuild
from projections.engine.replaying import Progress
from projections.engine.runner import Registered
from projections.engine.side_by_side import side_by_side
from tests.support.events.tallies import CODEC, Counted, Labelled, tallies, uses
from tests.support.shops.engine import Desk


async def test_one_that_fails_or_is_killed_stops_no_other(desk: Desk) -> None:
    killed, failing, *models = tallies(), tallies(), tallies(), uses()

    def work(model: Registered, report: Progress) -> Rebuilt:
        if model is killed:
            os.kill(os.getpid(), signal.SIGKILL)
        if model is failing:
            raise ValueError("no rows")
        with desk.connect() as conn:
            return rebuild(conn, CODEC, model, report)

    def run() -> list[tuple[Registered, Rebuilt | Exception]]:
        return list(side_by_side([killed, failing, *models], work, 2, tell))

    seen = list[int]()

    def tell(reached: int, _all: int) -> None:
        seen.append(reached)

    with desk.running(*models):
        await desk.log.append(
            [StreamAppend(uuid4(), 0, [Counted(1), Labelled("a")]) for _ in range(30)]
        )
        await desk.caught_up("tallies.1", "uses.1")
        said = {id(model): result for model, result in await asyncio.to_thread(run)}
    assert isinstance(said[id(killed)], ProcessDied)
    assert str(said[id(failing)]) == "no rows"
    for model in models:
        rebuilt = said[id(model)]
        assert isinstance(rebuilt, Rebuilt), rebuilt
        assert desk.rows(model) == desk.rows(model, rebuilt.storage)
        assert len(desk.rows(model)) == rebuilt.rows > 0
    assert seen == sorted(seen)


def test_they_end_when_nobody_waits_for_them_any_more() -> None:
    reading, writing = os.pipe()

    def work(_model: Registered, report: Progress) -> None:
        os.write(writing, b"%d\n" % os.getpid())
        report(1, 2)
        signal.pause()

    together = side_by_side([tallies(), tallies()], work, 2, lambda _reached, _all: stop())

    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        next(together)
    os.close(writing)
    with open(reading, "rb") as pids:  # its end shows that no process has the other side
        for pid in map(int, pids):
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
