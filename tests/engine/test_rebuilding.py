"""Rebuild beside live traffic, compare, switch, roll back; and the check that live rows equal a
replay."""

import asyncio
from uuid import uuid4

import psycopg
import pytest

from eventstore.consumers import checkpoints, quarantine
from eventstore.consumers.reader import Reader
from eventstore.log import StreamAppend
from projections.engine import rebuild
from projections.engine.rebuild import Busy, NeverRan, NothingEarlier, Rebuilt, Unequal
from projections.engine.runner import Registered, Subscriber
from projections.engine.tables import PostgresTable
from tests.support.events.tallies import CODEC, Counted, Labelled, Tallies, Tally, tallies, uses
from tests.support.quarantine import request_retry
from tests.support.shops.engine import Desk, has_table


def _rebuild(desk: Desk, registered: Registered, *, replace: bool = False) -> Rebuilt:
    with desk.connect() as conn:
        return rebuild.rebuild(conn, CODEC, registered, lambda _done, _all: None, replace=replace)


def _filled(conn: psycopg.Connection, registered: Registered) -> tuple[Reader, Subscriber]:
    """A rebuild that stopped at this step."""
    begun = rebuild.begin(conn, CODEC, registered)
    return begun.replay.reader, begun._filled(conn)


async def _past(desk: Desk, streams: int = 20, each: int = 10) -> None:
    ids = [uuid4() for _ in range(streams)]
    for step in range(each):
        await desk.log.append([StreamAppend(stream, step, [Counted(step)]) for stream in ids])


async def test_a_rebuild_under_traffic_gives_the_same_rows_and_switches_to_them(desk: Desk) -> None:
    registered = tallies()
    with desk.running(registered, uses()):
        await _past(desk)
        await desk.caught_up("tallies.1")
        done = asyncio.Event()

        async def traffic() -> None:
            while not done.is_set():
                await _past(desk, streams=3, each=4)

        going_on = asyncio.create_task(traffic())
        rebuilt = await asyncio.to_thread(_rebuild, desk, registered)
        done.set()
        await going_on
        await desk.caught_up("tallies.1", "tallies.1.r1", "uses.1")
    assert rebuilt.storage == "tallies_1_r1"
    assert rebuilt.rows >= 20
    active = {name: row.active for name, row in desk.subscriptions().items()}
    assert active == {"tallies.1": False, "tallies.1.r1": True, "uses.1": True}
    assert desk.rows(registered, "tallies_1") == desk.rows(registered, "tallies_1_r1")
    verified = desk.verify(registered)
    assert verified.difference.equal
    assert verified.position == await desk.log.head()


async def test_a_rebuild_can_be_rolled_back_for_the_old_storage_is_still_fed(desk: Desk) -> None:
    registered, stream = tallies(), uuid4()
    with desk.running(registered):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")
        await asyncio.to_thread(_rebuild, desk, registered)
        await desk.append(stream, Counted(2))
        await desk.caught_up("tallies.1", "tallies.1.r1")
        with desk.connect() as conn:
            assert rebuild.rollback(conn, registered) == "tallies_1"
            assert rebuild.live(conn, registered).storage == "tallies_1"
        assert desk.rows(registered)[stream].steps == [1, 2]
        await desk.append(stream, Counted(3))
        await desk.caught_up("tallies.1", "tallies.1.r1")
        with desk.connect() as conn:
            assert rebuild.rollback(conn, registered) == "tallies_1_r1", "and forward again"
    assert desk.rows(registered)[stream].steps == [1, 2, 3]


async def test_dropping_the_old_storage_does_not_disturb_the_others(desk: Desk) -> None:
    registered, other, stream = tallies(), uses(), uuid4()
    with desk.running(registered, other):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")
        await asyncio.to_thread(_rebuild, desk, registered)
        await desk.caught_up("tallies.1", "tallies.1.r1")
        with desk.connect() as conn:
            rebuild.drop(conn, registered.store, "tallies.1")
            rebuild.drop(conn, registered.store, "tallies.1.r1")  # active: stays
            rebuild.drop(conn, registered.store, "tallies.1.r9")  # not there
        await desk.append(stream, Counted(2), Labelled("x"))
        await desk.caught_up("tallies.1.r1", "uses.1")
    assert desk.subscriptions().keys() == {"tallies.1.r1", "uses.1"}
    assert desk.execute("SELECT to_regclass('read.tallies_1')") == [(None,)]
    assert desk.rows(registered)[stream].steps == [1, 2]


async def test_each_rebuild_clears_away_the_one_before_the_last(desk: Desk) -> None:
    registered = tallies()
    with desk.running(registered):
        await _past(desk, 3, 3)
        await desk.caught_up("tallies.1")
        storages = [(await asyncio.to_thread(_rebuild, desk, registered)).storage for _ in range(3)]
        await desk.caught_up("tallies.1.r1")
    assert storages == ["tallies_1_r1", "tallies_1_r2", "tallies_1_r1"]
    assert {f.storage: f.active for f in desk.subscriptions().values()} == {
        "tallies_1_r2": False,
        "tallies_1_r1": True,
    }
    assert desk.verify(registered).difference.equal


TAMPERINGS = [
    "UPDATE read.tallies_1 SET total = total + 1 WHERE tally_id = %s",
    "UPDATE read.tallies_1 SET steps = '[9]' WHERE tally_id = %s",
    "UPDATE read.tallies_1 SET label = '' WHERE tally_id = %s",
    (
        "UPDATE read.tallies_1 SET touched_at = touched_at + interval '1 microsecond' WHERE"
        " tally_id = %s"
    ),
    "DELETE FROM read.tallies_1 WHERE tally_id = %s",
    "INSERT INTO read.tallies_1 SELECT %s, 1, '[1]', NULL, now()",
]


@pytest.mark.parametrize("tampering", TAMPERINGS)
async def test_verify_finds_a_row_that_is_not_what_the_log_says_and_names_it(
    desk: Desk, tampering: str
) -> None:
    registered, stream = tallies(), uuid4()
    with desk.running(registered):
        await _past(desk, 10, 3)
        if not tampering.startswith("INSERT"):
            await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")
    assert desk.verify(registered).difference.equal
    desk.execute(tampering, stream)
    difference = desk.verify(registered).difference
    assert not difference.equal
    assert list(difference.keys) == [str(stream)]


async def test_verify_changes_nothing(desk: Desk) -> None:
    registered = tallies()
    with desk.running(registered):
        await _past(desk, 3, 3)
        await desk.caught_up("tallies.1")
    rows, state = desk.rows(registered), desk.subscriptions()
    desk.verify(registered)
    assert (desk.rows(registered), desk.subscriptions()) == (rows, state)


@pytest.mark.parametrize("tampering", [TAMPERINGS[0], TAMPERINGS[4], TAMPERINGS[5]])
async def test_a_rebuild_that_differs_from_live_leaves_live_alone_and_clears_up(
    desk: Desk, tampering: str
) -> None:
    registered, stream = tallies(), uuid4()
    with desk.running(registered):
        if not tampering.startswith("INSERT"):
            await desk.append(stream, Counted(1))
        await desk.append(uuid4(), Counted(1))
        await desk.caught_up("tallies.1")
        desk.execute(tampering, stream)
        tampered = desk.rows(registered)
        with pytest.raises(Unequal):
            await asyncio.to_thread(_rebuild, desk, registered)
        assert desk.subscriptions().keys() == {"tallies.1"}
        assert desk.rows(registered) == tampered
        assert desk.execute("SELECT to_regclass('read.tallies_1_r1')") == [(None,)]
        await desk.append(uuid4(), Counted(1))
        await desk.caught_up("tallies.1")


async def test_an_operator_can_replace_a_live_table_that_is_wrong(desk: Desk) -> None:
    registered, stream = tallies(), uuid4()
    with desk.running(registered):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")
        desk.execute(TAMPERINGS[0], stream)
        await asyncio.to_thread(_rebuild, desk, registered, replace=True)
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1.r1")
    assert desk.verify(registered).difference.equal


async def test_a_rebuild_carries_over_what_is_in_quarantine(desk: Desk) -> None:
    projection = Tallies()
    projection.refuses = {13}
    registered, bad, worse = Registered(projection, PostgresTable(Tally)), uuid4(), uuid4()
    with desk.running(registered):
        await desk.append(bad, Counted(1), Counted(13), Counted(3))
        await desk.append(worse, Counted(1), Labelled("\0"))
        await desk.append(uuid4(), Counted(1))
        await desk.caught_up("tallies.1")
        projection.refuses.clear()  # fixed, but not retried yet
        rebuilt = await asyncio.to_thread(_rebuild, desk, registered)
        assert rebuilt.rows == 3
        await desk.caught_up("tallies.1", "tallies.1.r1")
        quarantined = {(p.feed, p.stream_id, p.position) for p in desk.quarantined()}
        assert quarantined == {
            (f, s, p) for f in ("tallies.1", "tallies.1.r1") for s, p in ((bad, 2), (worse, 5))
        }
        assert desk.verify(registered).quarantined == 2
        with desk.connect() as conn:
            request_retry(conn, [p.id for p in desk.quarantined() if p.stream_id == bad])
        await desk.until(lambda conn: {p.stream_id for p in quarantine.held(conn)} == {worse})
    assert desk.rows(registered)[bad].steps == [1, 13, 3]
    assert desk.verify(registered).difference.equal


async def test_a_stream_that_is_poisoned_during_the_rebuild_is_quarantined_in_both(
    desk: Desk,
) -> None:
    registered, bad = tallies(), uuid4()
    with desk.running(registered):
        await desk.append(bad, Counted(1))
        await desk.caught_up("tallies.1")
    await desk.append(bad, Labelled("\0"))
    await desk.append(uuid4(), Counted(2))
    with desk.connect() as conn:
        reader, shadow = _filled(conn, registered)
        rebuild._catch_up(conn, reader, shadow, await desk.log.head())
    assert [(p.feed, p.stream_id) for p in desk.quarantined()] == [("tallies.1.r1", bad)]
    assert len(desk.rows(registered, "tallies_1_r1")) == 2


async def test_a_rebuild_that_died_is_cleared_away_by_the_next(desk: Desk) -> None:
    registered = tallies()
    with desk.running(registered):
        await _past(desk, 3, 3)
        await desk.caught_up("tallies.1")
        with desk.connect() as conn:
            position = _filled(conn, registered)[1].position
        await desk.append(uuid4(), Counted(1))
        await desk.caught_up("tallies.1")
        assert desk.subscriptions()["tallies.1.r1"].position == position, (
            "the projector leaves it alone"
        )
        assert (await asyncio.to_thread(_rebuild, desk, registered)).rows == 4
    assert desk.verify(registered).difference.equal


async def test_one_rebuild_of_a_projection_at_a_time(desk: Desk) -> None:
    registered = tallies()
    with desk.running(registered):
        await _past(desk, 1, 1)
        await desk.caught_up("tallies.1")
        with desk.connect() as conn:
            assert checkpoints.try_lead(conn, "rebuild tallies")
            with pytest.raises(Busy):
                _rebuild(desk, registered)
        _rebuild(desk, registered)


async def test_what_never_ran_cannot_be_verified_rebuilt_or_rolled_back(desk: Desk) -> None:
    with pytest.raises(NeverRan):
        desk.verify(tallies())
    with pytest.raises(NeverRan):
        _rebuild(desk, tallies())
    with desk.running(tallies()):
        await desk.append(uuid4(), Counted(1))
        await desk.caught_up("tallies.1")
    with desk.connect() as conn, pytest.raises(NothingEarlier):
        rebuild.rollback(conn, tallies())


async def test_an_empty_model_can_be_rebuilt(desk: Desk) -> None:
    with desk.running(tallies()):
        await desk.until(has_table("read.tallies_1"))
        assert (await asyncio.to_thread(_rebuild, desk, tallies())).rows == 0
