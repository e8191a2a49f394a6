"""A projection follows the log: live, catching up, beside others, paused."""

import asyncio
import threading
from collections.abc import Iterable, Sequence
from uuid import uuid4

import psycopg
import pytest

from eventstore.consumers import checkpoints
from eventstore.log import StreamAppend
from projections.engine import advancing
from projections.engine.lanes import Lane
from projections.engine.runner import Registered
from projections.engine.tables import PostgresTable
from projections.projection import Key
from tests.support.events.tallies import (
    CODEC,
    Closed,
    Counted,
    Ignored,
    Labelled,
    Tallies,
    Tally,
    Uses,
    tallies,
    uses,
)
from tests.support.shops.engine import Desk, has_table


async def test_appended_events_appear_in_the_rows(desk: Desk) -> None:
    registered, stream = tallies(), uuid4()
    with desk.running(registered):
        await desk.append(stream, Counted(3), Counted(4))
        await desk.caught_up("tallies.1")
        assert desk.rows(registered)[stream].steps == [3, 4]
        appended = await desk.append(stream, Counted(5), Labelled("five"))
        await desk.caught_up("tallies.1")
    assert desk.rows(registered) == {
        stream: Tally(stream, 12, [3, 4, 5], "five", appended.recorded_at)
    }


async def test_a_row_can_be_removed_and_come_back(desk: Desk) -> None:
    registered, stream = tallies(), uuid4()
    with desk.running(registered):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")
        await desk.append(stream, Closed())
        await desk.caught_up("tallies.1")
        assert desk.rows(registered) == {}
        await desk.append(stream, Counted(2), Closed(), Counted(5))
        await desk.caught_up("tallies.1")
        assert desk.rows(registered)[stream].steps == [5]


async def test_the_checkpoint_moves_over_events_that_are_nobodys(desk: Desk) -> None:
    registered = tallies()
    with desk.running(registered):
        await desk.append(uuid4(), Ignored(), Ignored())
        assert await desk.caught_up("tallies.1") == 2
    assert desk.rows(registered) == {}


async def test_an_empty_log_makes_an_empty_model(desk: Desk) -> None:
    registered = tallies()
    with desk.running(registered):
        await desk.until(has_table("read.tallies_1"))
    assert desk.rows(registered) == {}
    assert desk.verify(registered).difference.equal


async def _history(desk: Desk, streams: int = 40, each: int = 30) -> int:
    """Append some events; returns the sum of what they count."""
    ids = [uuid4() for _ in range(streams)]
    for step in range(each):
        events = [Labelled(f"l{step % 4}") if step % 5 == 4 else Counted(step)]
        await desk.log.append([StreamAppend(stream, step, events) for stream in ids])
    return streams * sum(step for step in range(each) if step % 5 != 4)


async def test_catching_up_gives_the_same_rows_as_living_through_it(desk: Desk) -> None:
    live, late = tallies(), Registered(_Renamed("late"), tallies().store)
    with desk.running(live):
        total = await _history(desk)
        await desk.caught_up("tallies.1")
    with desk.running(late):
        await desk.caught_up("late.1")
    rows = desk.rows(live)
    assert rows == desk.rows(late)
    assert sum(row.total for row in rows.values()) == total
    folded = live.projection.fold(await desk.log.read(limit=100_000))
    assert rows == {row.tally_id: row for row in folded.all()}


class _Renamed(Tallies):
    """The same fold under another name."""

    def __init__(self, name: str, version: int = 1) -> None:
        super().__init__()
        self.name = name  # type: ignore[misc]
        self.version = version  # type: ignore[misc]


async def test_catching_up_goes_in_pages(desk: Desk, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(advancing, "MAX_STRIDE", 7)
    monkeypatch.setattr(advancing, "CACHED_ROWS", 5)  # most rows have to be read again
    total, registered = await _history(desk, streams=20, each=10), tallies()
    with desk.running(registered):
        await desk.caught_up("tallies.1")
    assert sum(row.total for row in desk.rows(registered).values()) == total
    assert desk.verify(registered).difference.equal


async def test_a_projection_that_comes_later_catches_up_and_joins_the_others(desk: Desk) -> None:
    first, second = tallies(), uses()
    with desk.running(first):
        await _history(desk)
        await desk.caught_up("tallies.1")
    await _history(desk)  # while no runner is there
    third = Registered(_Renamed("third"), tallies().store)
    with desk.running(first, second, third):
        going_on = asyncio.create_task(_history(desk))
        await desk.caught_up("tallies.1", "uses.1", "third.1")
        await going_on
        await desk.caught_up("tallies.1", "uses.1", "third.1")
    assert desk.rows(first) == desk.rows(third)
    assert sum(row.uses for row in desk.rows(second).values()) == 3 * 40 * 6
    assert all(desk.verify(registered).difference.equal for registered in (first, second, third))


async def test_a_new_version_is_built_beside_the_old_one(desk: Desk) -> None:
    old, new = tallies(), Registered(_Renamed("tallies", 2), tallies().store)
    with desk.running(old):
        await desk.append(uuid4(), Counted(1))
        await desk.caught_up("tallies.1")
    with desk.running(new):
        await desk.append(uuid4(), Counted(2))
        await desk.caught_up("tallies.2")
    assert len(desk.rows(old)) == 1
    assert len(desk.rows(new)) == 2


async def test_a_paused_feed_stands_still_and_goes_on_where_it_was(desk: Desk) -> None:
    paused, other, stream = tallies(), uses(), uuid4()
    with desk.running(paused, other):
        await desk.append(stream, Counted(1))
        before = await desk.caught_up("tallies.1", "uses.1")
        desk.execute(
            "UPDATE consumers.feeds SET paused = true WHERE feed = 'tallies.1'; NOTIFY"
            f" {checkpoints.WAKE}"
        )
        await desk.until(_nobody_leads)
        await desk.append(stream, Counted(2), Labelled("x"))
        await desk.caught_up("uses.1")
        assert desk.subscriptions()["tallies.1"].position == before
        assert desk.rows(paused)[stream].steps == [1]
        desk.execute(
            "UPDATE consumers.feeds SET paused = false WHERE feed = 'tallies.1'; NOTIFY"
            f" {checkpoints.WAKE}"
        )
        await desk.caught_up("tallies.1")
    assert desk.rows(paused)[stream].steps == [1, 2]
    assert desk.verify(paused).difference.equal


def _nobody_leads(conn) -> bool:  # type: ignore[no-untyped-def]
    free = checkpoints.try_lead(conn, "tallies.1")
    if free:
        checkpoints.stop_leading(conn, "tallies.1")
    return free


async def test_a_notification_that_lies_about_the_head_skips_nothing(desk: Desk) -> None:
    registered = tallies()
    with desk.running(registered):
        await desk.append(uuid4(), Counted(1))
        await desk.caught_up("tallies.1")
        desk.execute("NOTIFY ludoteca_log, '1000'")
        desk.execute("NOTIFY ludoteca_log, 'nonsense'")
        await desk.append(uuid4(), Counted(2))
        await desk.caught_up("tallies.1")
    assert desk.subscriptions()["tallies.1"].position == 2
    assert len(desk.rows(registered)) == 2


def test_a_fold_knows_which_streams_feed_a_row() -> None:
    key = uuid4()
    assert Tallies().streams_of(key) == [key]
    assert Tallies().streams_of((key, "x")) == [key]
    assert PostgresTable(Tally).columns[2].json
    assert Uses.folds.keys() == {Labelled}


async def test_a_lanes_statements_are_planned_once(desk: Desk) -> None:
    registered, stream = tallies(), uuid4()
    with desk.connect() as conn:
        checkpoints.register(conn, "tallies", 1, registered.storage)
        lane = Lane(conn, CODEC, {("tallies", 1): registered}, threading.Event(), activates=True)
        lane.scan(lambda _: True)
        for number in range(12):
            await desk.append(stream, Counted(number))
            assert lane.step(lane.head())
        planned = conn.execute(
            "SELECT statement, generic_plans, custom_plans FROM pg_prepared_statements"
        ).fetchall()
    often = [row for row in planned if row[1] + row[2] >= 10]
    assert len(often) >= 4, "the head, the page, the checkpoint and the rows"
    assert [statement for statement, _, custom in often if custom] == []


class CountingTable(PostgresTable[Tally]):
    """Notes which rows are fetched, and which deleted."""

    def __init__(self) -> None:
        super().__init__(Tally)
        self.fetched: list[Key] = []
        self.deleted: list[Key] = []

    def fetch(self, conn: psycopg.Connection, storage: str, keys: Sequence[Key]) -> Iterable[Tally]:
        self.fetched += keys
        return super().fetch(conn, storage, keys)

    def write(
        self, conn: psycopg.Connection, storage: str, puts: Sequence[Tally], deletes: Sequence[Key]
    ) -> None:
        self.deleted += deletes
        super().write(conn, storage, puts, deletes)


async def test_rows_of_streams_that_begin_are_not_fetched_and_none_deleted_that_were_not_stored(
    desk: Desk,
) -> None:
    table = CountingTable()
    registered = Registered(Tallies(), table)
    first, begun, ended, gone = uuid4(), uuid4(), uuid4(), uuid4()
    with desk.running(registered):
        await desk.append(first, Counted(1))  # shows that the table can be read
        await desk.append(gone, Counted(1))
        await desk.caught_up("tallies.1")
    with desk.running(registered):  # another runner, which has no row in memory
        await desk.append(first, Counted(2))
        await desk.caught_up("tallies.1")
        table.fetched.clear()
        await desk.append(begun, Counted(3))
        await desk.append(ended, Counted(4), Closed())
        await desk.append(begun, Counted(5))
        await desk.append(gone, Closed())
        await desk.caught_up("tallies.1")
    assert table.fetched == [gone]
    assert table.deleted == [gone]
    assert {key: row.steps for key, row in desk.rows(registered).items()} == {
        first: [1, 2],
        begun: [3, 5],
    }
    assert desk.verify(registered).difference.equal


class Plain(Tallies):
    """As `Tallies`, with texts that PostgreSQL can hold."""

    name = "plain"
    keeps_nul = False


@pytest.mark.parametrize("label", ["a\0b\0", "ab", "a\\u0000b", ""])
async def test_folds_get_texts_without_nul_and_all_others_as_they_are(
    desk: Desk, label: str
) -> None:
    registered, stream = Registered(Plain(), PostgresTable(Tally)), uuid4()
    with desk.running(registered):
        await desk.append(stream, Counted(1), Labelled(label))
        await desk.caught_up("plain.1")
    assert desk.rows(registered)[stream].label == label.replace("\0", "")
    assert desk.verify(registered).difference.equal
