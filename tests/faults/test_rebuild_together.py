"""Several read models rebuilt in one pass over the log, and several passes at a time, each in a
process of its own."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from domain.amendments import AmendmentDeclared
from eventstore import amendments
from eventstore.consumers import checkpoints, quarantine
from eventstore.log import StreamAppend
from projections.engine import replaying
from projections.engine.folding import RowsRefused
from projections.engine.one_pass import grouped
from projections.engine.parts import ProcessDied
from projections.engine.rebuild import Busy, NeverRan, Rebuilt, Unequal
from projections.engine.replaying import Progress
from projections.engine.runner import Registered
from projections.engine.side_by_side import Group, side_by_side
from projections.engine.tables import PostgresTable
from projections.engine.together import rebuild_together
from tests.support.events.tallies import (
    CODEC,
    Closed,
    Counted,
    Ignored,
    Labelled,
    Tallies,
    Tally,
    Use,
    Uses,
    tallies,
    uses,
)
from tests.support.shops.engine import Desk

Said = dict[str, Rebuilt | Exception]


class Others(Tallies):
    """As `Tallies`, under another name."""

    name = "others"


class OtherUses(Uses):
    name = "other_uses"


class RefusingTable(PostgresTable[Any]):
    """A table that refuses rows once a log is replayed into it."""

    def fill(self, conn: psycopg.Connection, storage: str, rows: Any) -> None:
        raise RowsRefused("no rows here", [])


def others(table: PostgresTable[Any] | None = None) -> Registered:
    return Registered(Others(), table or PostgresTable(Tally))


def other_uses() -> Registered:
    return Registered(OtherUses(), PostgresTable(Use))


def _rebuilt(
    desk: Desk, models: Sequence[Registered], report: Progress = lambda _done, _all: None
) -> Said:
    with desk.connect() as conn:
        return {
            model.projection.name: said
            for model, said in rebuild_together(conn, CODEC, models, report, replace=False)
        }


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are small, and all replays together hold hardly a row."""
    monkeypatch.setattr(replaying, "PAGE", 7)
    monkeypatch.setattr(replaying, "HELD_BYTES", 2_000)


async def _history(desk: Desk, seed: int, length: int = 200) -> None:
    """Rows appear, change, vanish and reappear, and some events cannot be applied."""
    chance = random.Random(seed)
    streams = [uuid4() for _ in range(12)]
    for _ in range(length):
        stream = chance.choice(streams)
        match chance.randrange(6):
            case 0:
                await desk.append(stream, Closed(), Ignored())
            case 1:
                await desk.append(stream, Counted(1), Labelled(chance.choice("abc")))
            case 2:
                await desk.append(stream, Counted(13 if chance.random() < 0.1 else 2), Counted(3))
            case _:
                await desk.append(stream, Counted(chance.randrange(12)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.usefixtures("little_memory")
async def test_one_pass_gives_each_the_rows_that_it_has_live(desk: Desk, seed: int) -> None:
    """While events are appended; what one cannot apply, it alone quarantines."""
    choosy, easy, shared = tallies(), others(), uses()
    choosy.projection.refuses = {13}  # type: ignore[attr-defined]
    models = [choosy, easy, shared, other_uses()]
    names = [f"{model.projection.name}.1" for model in models]
    await _history(desk, seed)
    with desk.running(*models):
        await desk.caught_up(*names)
        going_on = asyncio.create_task(_history(desk, seed + 10, 50))
        seen = list[int]()
        said = await asyncio.to_thread(_rebuilt, desk, models, lambda done, _all: seen.append(done))
        await going_on
        await desk.caught_up(*names, *(f"{name}.r1" for name in names))
    assert seen == sorted(seen)
    for model in models:
        rebuilt = said[model.projection.name]
        assert isinstance(rebuilt, Rebuilt), rebuilt
        assert desk.rows(model) == desk.rows(model, model.storage)
        assert desk.rows(model) == desk.rows(model, f"{model.storage}_r1") != {}
        assert desk.verify(model).difference.equal
    assert {each.feed for each in desk.quarantined()} == {"tallies.1", "tallies.1.r1"}


async def test_one_that_lags_is_folded_no_further_than_it_is_and_holds_up_none(
    desk: Desk,
) -> None:
    late, models = tallies(), [others(), uses()]
    with desk.running(late, *models):
        await _history(desk, 1, 20)
        await desk.caught_up("tallies.1", "others.1", "uses.1")
    with desk.running(*models):
        await _history(desk, 2, 20)
        head = await desk.caught_up("others.1", "uses.1")
    said = _rebuilt(desk, [models[0], late, models[1]])
    at = {name: rebuilt.position for name, rebuilt in said.items() if isinstance(rebuilt, Rebuilt)}
    assert at["others"] == at["uses"] == head > at["tallies"] > 0


async def test_each_reads_events_by_the_amendments_that_its_live_rows_have(desk: Desk) -> None:
    """One that has not taken up an amendment yet is folded in a pass of its own."""
    late, current, shared = tallies(), others(), uses()
    stream = uuid4()
    with desk.running(late, current, shared):
        await desk.append(stream, Counted(1), Counted(3), Labelled("a"))
        await desk.caught_up("tallies.1", "others.1", "uses.1")
    with desk.running(current, shared):
        (first, _), *_ = await desk.log.read_raw(0, upto=1)
        skipped = AmendmentDeclared(
            1, first.event_id, stream, first.name, "skip", "it was a mistake", None
        )
        await desk.append(amendments.STREAM, skipped)
        await desk.until(
            lambda conn: (
                {s.name for s in checkpoints.subscriptions(conn) if s.amended}
                == {"others.1", "uses.1"}
                and not quarantine.held(conn)
            )
        )
    seen = list[int]()
    said = _rebuilt(desk, [late, current, shared], lambda done, _all: seen.append(done))
    assert {type(each) for each in said.values()} == {Rebuilt}, said
    assert (desk.rows(late)[stream].total, desk.rows(current)[stream].total) == (4, 3)
    assert seen == sorted(seen)


async def test_each_fails_alone(desk: Desk) -> None:
    """One differs from its live rows, another's rows are refused, one is being rebuilt by somebody
    else, and one never ran."""
    unequal, refused, sound, busy = tallies(), others(RefusingTable(Tally)), uses(), other_uses()

    class Strangers(Tallies):
        name = "strangers"

    unknown = Registered(Strangers(), PostgresTable(Tally))
    with desk.running(unequal, refused, sound, busy):
        await _history(desk, 3)
        await desk.caught_up("tallies.1", "others.1", "uses.1", "other_uses.1")
    desk.execute("UPDATE read.tallies_1 SET total = -1")
    with desk.connect() as other:
        assert other.execute(
            "SELECT pg_try_advisory_lock(4911, hashtext('rebuild other_uses'))"
        ).fetchone() == (True,)
        said = _rebuilt(desk, [unequal, refused, busy, unknown, sound])
    errors = {name: type(each) for name, each in said.items()}
    assert errors == {
        "tallies": Unequal,
        "others": RowsRefused,
        "other_uses": Busy,
        "strangers": NeverRan,
        "uses": Rebuilt,
    }
    there = desk.subscriptions()
    assert [name for name in there if there[name].building] == [], "what failed is cleared away"
    assert {name for name in there if there[name].active} == {
        "tallies.1", "others.1", "other_uses.1", "uses.1.r1",
    }  # fmt: skip
    assert isinstance(_rebuilt(desk, [busy])["other_uses"], Rebuilt)


async def test_groups_have_every_read_model_once_and_share_what_they_fold(desk: Desk) -> None:
    await _history(desk, 4, 20)
    models = [tallies(), uses(), others(), other_uses()]
    with desk.connect() as conn:
        for count in (1, 2, 3, 9):
            groups = grouped(conn, CODEC, models, count)
            assert len(groups) == min(count, len(models))
            named = sorted(model.projection.name for group in groups for model in group)
            assert named == ["other_uses", "others", "tallies", "uses"]


# -- in processes ----------------------------------------------------------------------------------


async def test_one_that_fails_or_is_killed_stops_no_other(desk: Desk) -> None:
    """A process that is killed had rebuilt one of its read models: that one stays."""
    killed, failing, *models = tallies(), tallies(), tallies(), uses()
    last = others()

    def work(group: Group, report: Progress) -> Iterator[tuple[Registered, Rebuilt | Exception]]:
        if failing in group:
            raise ValueError("no rows")
        with desk.connect() as conn:
            yield from rebuild_together(
                conn, CODEC, [each for each in group if each is not killed], report, replace=False
            )
        if killed in group:
            os.kill(os.getpid(), signal.SIGKILL)

    def run() -> list[tuple[Registered, Rebuilt | Exception]]:
        return list(side_by_side([[killed, last], [failing], models], work, 2, tell))

    seen = list[int]()

    def tell(reached: int, _all: int) -> None:
        seen.append(reached)

    with desk.running(*models, last):
        await desk.log.append(
            [StreamAppend(uuid4(), 0, [Counted(1), Labelled("a")]) for _ in range(30)]
        )
        await desk.caught_up("tallies.1", "uses.1", "others.1")
        said = {id(model): result for model, result in await asyncio.to_thread(run)}
    assert isinstance(said[id(killed)], ProcessDied)
    assert str(said[id(failing)]) == "no rows"
    for model in (*models, last):
        rebuilt = said[id(model)]
        assert isinstance(rebuilt, Rebuilt), rebuilt
        assert desk.rows(model) == desk.rows(model, rebuilt.storage)
        assert len(desk.rows(model)) == rebuilt.rows > 0
    assert seen == sorted(seen)


def test_they_end_when_nobody_waits_for_them_any_more() -> None:
    reading, writing = os.pipe()

    def work(_group: Group, report: Progress) -> Iterator[tuple[Registered, None]]:
        os.write(writing, b"%d\n" % os.getpid())
        report(1, 2)
        signal.pause()
        yield from ()

    together = side_by_side([[tallies()], [tallies()]], work, 2, lambda _reached, _all: stop())

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
