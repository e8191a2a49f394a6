"""Every event counts exactly once, whatever dies: compared with a replay, and with what was
appended."""

import asyncio
import random
import signal
from functools import partial
from uuid import UUID, uuid4

import psycopg
import pytest

from eventstore.consumers import checkpoints
from eventstore.consumers.reader import Reader
from eventstore.log import StreamAppend
from projections.engine.runner import Registered, Subscriber, advance
from tests.support.events.tallies import CODEC, Counted, Labelled, tallies, uses
from tests.support.shops.engine import Desk

LEADER = """
    SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.classid = 4911 AND l.objid = hashtext(%s)::oid AND l.granted
      AND a.datname = current_database()
"""


async def _traffic(desk: Desk, streams: int = 12, each: int = 40) -> None:
    """Appends from several callers, each to its own streams."""

    async def caller() -> None:
        stream = uuid4()
        for step in range(each):
            events = [Counted(step), Labelled(f"l{step % 3}")]
            await desk.log.append([StreamAppend(stream, 2 * step, events)])

    await asyncio.gather(*(caller() for _ in range(streams)))


def _assert_each_counted_once(desk: Desk, streams: int = 12, each: int = 40) -> None:
    rows = desk.rows(tallies())
    assert [row.steps for row in rows.values()] == [list(range(each))] * streams
    assert sum(row.uses for row in desk.rows(uses()).values()) == streams * each
    for registered in (tallies(), uses()):
        assert desk.verify(registered).difference.equal
    assert desk.quarantined() == []


async def test_when_its_backend_is_killed_again_and_again(desk: Desk) -> None:
    rng = random.Random(4911)
    with desk.running(tallies(), uses()):
        traffic = asyncio.create_task(_traffic(desk))
        kills = 0
        while not traffic.done() or kills < 4:
            await desk.until(lambda conn: conn.execute(LEADER, ("tallies.1",)).fetchone())
            await asyncio.sleep(rng.random() * 0.02)
            await asyncio.to_thread(
                desk.execute,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'ludoteca projector'",
            )
            kills += 1
        await traffic
        await desk.caught_up("tallies.1", "uses.1")
    _assert_each_counted_once(desk)


async def test_when_its_process_is_killed_midway_and_another_goes_on(desk: Desk) -> None:
    traffic = asyncio.create_task(_traffic(desk))
    for _ in range(2):
        with desk.running_process() as process:
            before = max([f.position for f in desk.subscriptions().values()], default=0)
            await desk.until(partial(_beyond, before, desk, traffic))
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait)
    with desk.running(tallies(), uses()):
        await traffic
        await desk.caught_up("tallies.1", "uses.1")
    _assert_each_counted_once(desk)


def _done(desk: Desk, conn: psycopg.Connection, traffic: asyncio.Task[None]) -> bool:
    """Whether nothing is left to fold."""
    found = checkpoints.subscriptions(conn)
    row = conn.execute("SELECT coalesce(max(position), 0) FROM log.events").fetchone()
    return (
        traffic.done()
        and bool(found)
        and row is not None
        and all(f.position == row[0] for f in found)
    )


def _beyond(
    position: int, desk: Desk, traffic: asyncio.Task[None], conn: psycopg.Connection
) -> bool:
    """Whether anything was folded beyond a position, or nothing is left to fold."""
    return any(f.position > position for f in checkpoints.subscriptions(conn)) or _done(
        desk, conn, traffic
    )


async def test_one_process_leads_and_another_takes_over_when_it_dies(desk: Desk) -> None:
    stream = uuid4()
    await desk.append(stream, Counted(1))
    with desk.running_process() as one, desk.running_process() as other:
        await desk.caught_up("tallies.1", "uses.1")
        leaders = desk.execute(LEADER, "tallies.1")
        assert len(leaders) == 1
        one.send_signal(signal.SIGKILL)
        await asyncio.to_thread(one.wait)
        await desk.append(stream, Counted(2))
        await desk.caught_up("tallies.1")
        assert len(desk.execute(LEADER, "tallies.1")) == 1
        with desk.running(tallies(), uses()):  # a second one that waits to lead
            other.send_signal(signal.SIGKILL)
            await asyncio.to_thread(other.wait)
            await desk.append(stream, Counted(3))
            await desk.caught_up("tallies.1")
    assert desk.rows(tallies())[stream].steps == [1, 2, 3]
    assert desk.execute(LEADER, "tallies.1") == []


async def test_two_runners_that_both_believe_to_lead_count_once(desk: Desk) -> None:
    stream, registered = uuid4(), tallies()
    with desk.running(registered):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")
    head = (await desk.append(stream, Counted(10))).position
    with desk.connect() as conn:
        reader = Reader(CODEC, CODEC.names_of(registered.projection.folds))
        first, second = _subscriber(conn, registered, reader), _subscriber(conn, registered, reader)
        advance(conn, reader, [first], head)
        with pytest.raises(checkpoints.CheckpointMoved):
            advance(conn, reader, [second], head)
    assert desk.rows(registered)[stream].steps == [1, 10]


def _subscriber(conn: psycopg.Connection, registered: Registered, reader: Reader) -> Subscriber:
    row = checkpoints.subscription(conn, "tallies.1")
    assert row is not None
    subscriber = Subscriber(registered.projection, registered.store, row, reader.names)
    subscriber.attach(conn)
    return subscriber


async def test_rows_and_checkpoint_of_all_feeds_of_a_page_commit_together(desk: Desk) -> None:
    """A crash between them rolls everything back: here the last statement of the transaction
    fails."""
    one, two = tallies(), uses()
    with desk.running(one, two):
        await desk.append(uuid4(), Counted(1), Labelled("a"))
        before = await desk.caught_up("tallies.1", "uses.1")
    stream = UUID(int=1)
    head = (await desk.append(stream, Counted(10), Labelled("a"))).position
    with desk.connect() as conn:
        reader = Reader(CODEC, CODEC.names_of([*one.projection.folds, *two.projection.folds]))
        group = []
        for registered, name in ((one, "tallies.1"), (two, "uses.1")):
            row = checkpoints.subscription(conn, name)
            assert row is not None
            group.append(
                Subscriber(
                    registered.projection,
                    registered.store,
                    row,
                    CODEC.names_of(registered.projection.folds),
                )
            )
            group[-1].attach(conn)
        desk.execute("ALTER TABLE read.uses_1 ADD CONSTRAINT never CHECK (uses < 2) NOT VALID")
        with pytest.raises(psycopg.errors.CheckViolation):
            advance(conn, reader, group, head)
        desk.execute("ALTER TABLE read.uses_1 DROP CONSTRAINT never")
        assert stream not in desk.rows(one)
        assert (
            {subscriber.position for subscriber in desk.subscriptions().values()}
            == {subscriber.position for subscriber in group}
            == {before}
        )
        advance(conn, reader, group, head)
    assert desk.rows(one)[stream].steps == [10]
    assert desk.rows(two)["a"].uses == 2
