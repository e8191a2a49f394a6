"""Up-to-date subscriptions wait neither for those that lag behind nor for those that fail."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from eventstore.consumers import checkpoints
from eventstore.log import StreamAppend
from projections.engine import advancing, lanes
from projections.engine.runner import Registered
from projections.engine.tables import PostgresTable
from tests.support.events.tallies import Counted, Labelled, Tallies, Tally, tallies, uses
from tests.support.shops.engine import Desk


class GatedTable(PostgresTable[Any]):
    """Writes only while its gate is open."""

    def __init__(self, row_type: type[Any]) -> None:
        super().__init__(row_type)
        self.gate = threading.Event()
        self.asked = threading.Event()

    def write(
        self, conn: psycopg.Connection, storage: str, puts: Sequence[Any], deletes: Sequence[Any]
    ) -> None:
        self.asked.set()
        assert self.gate.wait(30)
        super().write(conn, storage, puts, deletes)


@pytest.fixture(autouse=True)
def _near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a lag of a few events count as large."""
    monkeypatch.setattr(lanes, "BEHIND_POSITIONS", 100)
    monkeypatch.setattr(lanes, "REJOIN_POSITIONS", 10)
    monkeypatch.setattr(advancing, "MAX_STRIDE", 50)


async def _past(desk: Desk, events: int) -> None:
    stream = uuid4()
    await desk.append(stream, *[Counted(1)] * events)


async def test_live_events_are_seen_while_another_feed_is_in_the_middle_of_a_page_of_the_past(
    desk: Desk,
) -> None:
    table = GatedTable(Tally)
    behind, live = Registered(Tallies(), table), uses()
    await _past(desk, 1000)
    with desk.running(live):
        await desk.caught_up("uses.1")
    with desk.running(live, behind):
        try:
            assert await asyncio.to_thread(table.asked.wait, 20)
            for step in range(5):
                await desk.append(uuid4(), Labelled(f"l{step}"))
                await desk.caught_up("uses.1")
            assert desk.subscriptions()["tallies.1"].position == 0
        finally:
            table.gate.set()
        await desk.caught_up("tallies.1", "uses.1")
    assert len(desk.rows(live)) == 5
    assert desk.verify(behind).difference.equal


async def test_what_has_caught_up_joins_those_in_front_and_its_connection_ends(desk: Desk) -> None:
    live, late = uses(), tallies()
    await _past(desk, 1000)
    with desk.running(live):
        await desk.caught_up("uses.1")
    with desk.running(live, late):
        await desk.caught_up("uses.1", "tallies.1")
        await desk.until(_led_by_one)
        await desk.append(uuid4(), Counted(1), Labelled("x"))
        await desk.caught_up("uses.1", "tallies.1")
    assert desk.verify(late).difference.equal


def _led_by_one(conn: psycopg.Connection) -> bool:
    """Whether one connection leads both subscriptions, and is the only one."""
    leaders = conn.execute(
        "SELECT pid, count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 4911 AND"
        " granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " GROUP BY pid"
    ).fetchall()
    projectors = conn.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'ludoteca projector'"
    ).fetchone()
    return [count for _, count in leaders] == [2] and projectors == (1,)


async def test_a_feed_that_falls_behind_lets_the_others_go_on_and_comes_back(desk: Desk) -> None:
    table = GatedTable(Tally)
    table.gate.set()
    slow, live = Registered(Tallies(), table), uses()
    with desk.running(slow, live):
        await desk.append(uuid4(), Counted(1), Labelled("a"))
        await desk.caught_up("tallies.1", "uses.1")
        desk.execute(
            "UPDATE consumers.feeds SET paused = true WHERE feed = 'tallies.1'; NOTIFY"
            f" {checkpoints.WAKE}"
        )
        await _past(desk, 500)
        await desk.caught_up("uses.1")
        table.gate.clear()
        table.asked.clear()
        desk.execute(
            "UPDATE consumers.feeds SET paused = false WHERE feed = 'tallies.1'; NOTIFY"
            f" {checkpoints.WAKE}"
        )
        try:
            assert await asyncio.to_thread(table.asked.wait, 20)
            await desk.append(uuid4(), Labelled("b"))
            await desk.caught_up("uses.1")
        finally:
            table.gate.set()
        await desk.caught_up("tallies.1", "uses.1")
    assert desk.verify(slow).difference.equal


async def test_a_runner_that_leads_nothing_else_catches_up_by_itself(desk: Desk) -> None:
    registered = tallies()
    await _past(desk, 1000)
    threads = threading.active_count()
    with desk.running(registered):
        await desk.caught_up("tallies.1")
        assert "projector-behind" not in {thread.name for thread in threading.enumerate()}
    assert threading.active_count() <= threads + 1
    assert desk.verify(registered).difference.equal


async def test_leads_that_move_between_two_runners_lose_and_repeat_nothing(desk: Desk) -> None:
    """Two projectors, one of which falls behind at random: whichever leads, each event counts
    once."""
    one, other = tallies(), uses()
    stream, version = uuid4(), 0
    with desk.running(one, other), desk.running(one, other):
        for burst in (150, 5, 300, 1, 120):
            events = [Counted(1) if n % 2 else Labelled(f"l{n % 3}") for n in range(burst)]
            await desk.log.append([StreamAppend(stream, version, [Counted(0), *events])])
            version += burst + 1
        await desk.caught_up("tallies.1", "uses.1")
    for registered in (one, other):
        assert desk.verify(registered).difference.equal
    assert desk.quarantined() == []
