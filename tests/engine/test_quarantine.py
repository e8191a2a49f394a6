"""An event that cannot be applied stops its own stream from that event on, and nothing else."""

import time
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID, uuid4

import psycopg
import pytest

from domain.events import Event
from eventstore.codec import Codec
from eventstore.consumers import checkpoints, leadership, quarantine
from eventstore.log import Envelope, StreamAppend
from eventstore.postgres_log import PostgresLog
from projections.engine import advancing
from projections.engine.runner import Registered
from projections.engine.tables import PostgresTable
from projections.projection import Rows, on
from tests.support.events.tallies import (
    Counted,
    Labelled,
    ShakyTable,
    Tallies,
    Tally,
    Use,
    Uses,
    tallies,
    uses,
)
from tests.support.quarantine import request_retry
from tests.support.shops.engine import Desk


def _refusing(*numbers: int) -> tuple[Registered, Tallies]:
    projection = Tallies()
    projection.refuses = set(numbers)
    return Registered(projection, PostgresTable(Tally)), projection


async def _retry(desk: Desk) -> None:
    """Request a retry as an operator does; returns when all requested streams were tried."""
    with desk.connect() as conn:
        assert request_retry(conn) > 0
    await desk.until(lambda conn: not any(p.retry for p in quarantine.held(conn)))


# -- an event that cannot be folded ----------------------------------------------------------------


async def test_its_stream_is_quarantined_from_that_event_on_and_the_others_go_on(
    desk: Desk,
) -> None:
    registered, _ = _refusing(13)
    bad, good = uuid4(), uuid4()
    await desk.append(good, Counted(1))
    await desk.append(bad, Counted(1), Counted(2))  # before it, in the same page: kept
    poison = await desk.append(bad, Counted(13))
    await desk.append(bad, Counted(4))  # after it: held back
    await desk.append(good, Counted(2))
    with desk.running(registered):
        await desk.caught_up("tallies.1")
        await desk.append(bad, Counted(5))
        await desk.append(good, Counted(3))
        await desk.caught_up("tallies.1")
    rows = desk.rows(registered)
    assert (rows[bad].steps, rows[bad].total) == ([1, 2], 3)
    assert rows[good].steps == [1, 2, 3]
    (quarantined,) = desk.quarantined()
    assert (quarantined.feed, quarantined.stream_id, quarantined.position) == (
        "tallies.1",
        bad,
        poison.position,
    )
    assert (quarantined.name, quarantined.error, quarantined.attempts) == (
        "test.counted.v1",
        "ValueError: no 13, please",
        1,
    )


async def test_a_quarantined_stream_stays_quarantined_when_the_runner_starts_again(
    desk: Desk,
) -> None:
    registered, _ = _refusing(13)
    bad = uuid4()
    with desk.running(registered):
        await desk.append(bad, Counted(1), Counted(13))
        await desk.caught_up("tallies.1")
    with desk.running(tallies()):  # fixed, but no retry was requested
        await desk.append(bad, Counted(3))
        await desk.caught_up("tallies.1")
    assert desk.rows(registered)[bad].steps == [1]
    assert len(desk.quarantined()) == 1


async def test_once_mended_a_retry_applies_all_that_was_held_back_in_order(desk: Desk) -> None:
    registered, projection = _refusing(13)
    bad, good = uuid4(), uuid4()
    with desk.running(registered):
        await desk.append(bad, Counted(1), Counted(13), Counted(3))
        await desk.append(good, Counted(7))
        await desk.append(bad, Labelled("late"), Counted(5))
        await desk.caught_up("tallies.1")
        projection.refuses.clear()
        await _retry(desk)
        assert desk.quarantined() == []
        await desk.append(bad, Counted(6))
        await desk.caught_up("tallies.1")
    row = desk.rows(registered)[bad]
    assert (row.steps, row.total, row.label) == ([1, 13, 3, 5, 6], 28, "late")
    assert desk.verify(registered).difference.equal


async def test_a_retry_that_fails_again_is_counted(desk: Desk) -> None:
    registered, _ = _refusing(13)
    bad = uuid4()
    with desk.running(registered):
        await desk.append(bad, Counted(1), Counted(13), Counted(3))
        await desk.caught_up("tallies.1")
        await _retry(desk)
        await _retry(desk)
    (quarantined,) = desk.quarantined()
    assert quarantined.attempts == 3
    assert desk.rows(registered)[bad].steps == [1]


async def test_a_retry_gets_as_far_as_the_next_event_that_fails(desk: Desk) -> None:
    registered, projection = _refusing(13, 14)
    bad = uuid4()
    with desk.running(registered):
        await desk.append(bad, Counted(13), Counted(2), Counted(14), Counted(4))
        await desk.caught_up("tallies.1")
        assert desk.rows(registered) == {}
        projection.refuses.discard(13)
        await _retry(desk)
        assert desk.rows(registered)[bad].steps == [13, 2]
        assert [p.position for p in desk.quarantined()] == [3]
        projection.refuses.clear()
        await _retry(desk)
    assert desk.rows(registered)[bad].steps == [13, 2, 14, 4]
    assert desk.quarantined() == []


async def test_many_poisoned_streams_in_one_page_are_quarantined_each_at_its_place(
    desk: Desk,
) -> None:
    registered, _ = _refusing(13)
    streams = [uuid4() for _ in range(20)]
    for step in range(3):
        for no, stream in enumerate(streams):
            await desk.append(stream, Counted(13 if no % 4 == 0 and step == 1 else step))
    with desk.running(registered):
        await desk.caught_up("tallies.1")
    assert {p.stream_id: p.position for p in desk.quarantined()} == {
        streams[no]: 21 + no for no in range(0, 20, 4)
    }
    rows = desk.rows(registered)
    assert [rows[s].steps for s in streams] == [
        [0] if no % 4 == 0 else [0, 1, 2] for no in range(20)
    ]
    verified = desk.verify(registered)
    assert verified.difference.equal
    assert verified.quarantined == 5


async def test_a_missing_row_is_the_fault_of_the_stream_that_asked_for_it(desk: Desk) -> None:
    registered, stream = tallies(), uuid4()
    with desk.running(registered):
        await desk.append(stream, Labelled("before anything was counted"))
        await desk.append(uuid4(), Counted(1))
        await desk.caught_up("tallies.1")
    assert [(p.stream_id, p.error) for p in desk.quarantined()] == [
        (stream, f"RowMissing: no row has the key {stream}")
    ]
    assert len(desk.rows(registered)) == 1


class Picky(Uses):
    """Its key function fails for some labels."""

    name = "picky"

    @on(Labelled, key=lambda event, _: {"a": "a", "b": "b"}[event.label])
    def labelled(self, rows: Rows[Use], event: Labelled, env: Envelope) -> None:
        rows.put(Use(event.label, 1))


async def test_an_event_whose_row_key_fails_quarantines_its_own_stream(desk: Desk) -> None:
    registered = Registered(Picky(), PostgresTable(Use))
    bad = uuid4()
    await desk.append(uuid4(), Labelled("a"))
    await desk.append(bad, Labelled("c"))
    await desk.append(uuid4(), Labelled("b"))
    with desk.running(registered):
        await desk.caught_up("picky.1")
    assert [p.stream_id for p in desk.quarantined()] == [bad]
    assert desk.rows(registered).keys() == {"a", "b"}


# -- rows that cannot be written or looked up ------------------------------------------------------


@pytest.mark.parametrize("page", [3, 20_000])
async def test_rows_that_cannot_be_written_quarantine_the_stream_at_fault(
    desk: Desk, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advancing, "MAX_STRIDE", page)
    registered, other = tallies(), uses()
    bad, good = uuid4(), [uuid4() for _ in range(20)]
    for stream in good:
        await desk.append(stream, Counted(1))
    await desk.append(bad, Counted(1))
    poison = await desk.append(bad, Labelled("NUL \0"))
    await desk.append(bad, Counted(2))
    for stream in good:
        await desk.append(stream, Counted(2))
    with desk.running(registered, other):
        await desk.caught_up("tallies.1", "uses.1")
        await desk.append(good[0], Labelled("fine"))
        await desk.caught_up("tallies.1", "uses.1")
    rows = desk.rows(registered)
    assert rows[bad].steps == [1]
    assert all(rows[stream].steps == [1, 2] for stream in good)
    assert {(p.feed, p.stream_id, p.position) for p in desk.quarantined()} == {
        ("tallies.1", bad, poison.position),  # the table refuses to write it
        ("uses.1", bad, poison.position),  # the table refuses even to look it up
    }
    assert desk.rows(other).keys() == {"fine"}
    for each in (registered, other):
        assert desk.verify(each).difference.equal


async def test_retrying_what_cannot_be_written_holds_up_nobody(desk: Desk) -> None:
    registered, bad, good = tallies(), uuid4(), uuid4()
    with desk.running(registered):
        await desk.append(bad, Counted(1), Labelled("\0"), Counted(2))
        await desk.append(good, Counted(1))
        await desk.caught_up("tallies.1")
        await _retry(desk)
        await desk.append(good, Counted(2))
        await desk.caught_up("tallies.1")
    (quarantined,) = desk.quarantined()
    assert (quarantined.position, quarantined.attempts) == (2, 2)
    assert desk.rows(registered)[bad].steps == [1]
    assert desk.rows(registered)[good].steps == [1, 2]


async def test_what_can_be_written_of_a_retried_stream_is_and_the_rest_waits(desk: Desk) -> None:
    registered, projection = _refusing(13)
    bad = uuid4()
    with desk.running(registered):
        await desk.append(bad, Counted(13), Counted(2), Labelled("\0"), Counted(4))
        await desk.caught_up("tallies.1")
        projection.refuses.clear()
        await _retry(desk)
    assert desk.rows(registered)[bad].steps == [13, 2]
    assert [(p.position, p.name) for p in desk.quarantined()] == [(3, "test.labelled.v1")]


async def test_a_number_too_large_for_its_column_is_poison_like_any(desk: Desk) -> None:
    registered, bad, good = tallies(), uuid4(), uuid4()
    with desk.running(registered):
        await desk.append(bad, Counted(2**62), Counted(2**62))
        await desk.append(good, Counted(1))
        await desk.caught_up("tallies.1")
    assert [(p.stream_id, p.position) for p in desk.quarantined()] == [(bad, 2)]
    assert desk.rows(registered)[bad].total == 2**62


# -- payloads that cannot be read ------------------------------------------------------------------


class CountedOtherwise(Event, frozen=True):
    """The same wire name with another shape, as if a faulty program had appended it."""

    NAME: ClassVar[str] = "test.counted.v1"
    by: str


async def _append_unreadable(desk: Desk, stream: UUID, payload: str) -> None:
    """An event that can be decoded, one that cannot, and another one."""
    if payload == "another shape":
        faulty = Codec({CountedOtherwise.NAME: CountedOtherwise})
        await desk.append(stream, Counted(1))
        async with PostgresLog.open(desk.database, faulty, pool_size=1) as log:
            await log.append([StreamAppend(stream, 1, [CountedOtherwise("two")])])
    else:
        await desk.append(stream, Counted(1), Counted(2))
        desk.execute("ALTER TABLE log.events DISABLE TRIGGER append_only")
        desk.execute(
            "UPDATE log.events SET payload = %s WHERE stream_id = %s AND version = 2",
            payload.encode("latin-1"),
            stream,
        )
    await desk.log.append([StreamAppend(stream, 2, [Labelled("after")])])


@pytest.mark.parametrize("payload", ["another shape", '{"by":', '{"by":"\xff"}', ""])
async def test_an_event_that_cannot_be_read_quarantines_its_stream_where_it_matters(
    desk: Desk, payload: str
) -> None:
    folds_it, does_not = tallies(), uses()
    bad, good = uuid4(), uuid4()
    await _append_unreadable(desk, bad, payload)
    await desk.append(good, Counted(5))
    with desk.running(folds_it, does_not):
        await desk.caught_up("tallies.1", "uses.1")
    assert [(p.feed, p.stream_id, p.position) for p in desk.quarantined()] == [
        ("tallies.1", bad, 2)
    ]
    assert desk.rows(folds_it)[bad].steps == [1]
    assert desk.rows(folds_it)[good].steps == [5]
    assert desk.rows(does_not).keys() == {"after"}
    assert desk.verify(folds_it).difference.equal


# -- a store in trouble is no event's fault --------------------------------------------------------


@pytest.mark.parametrize("trouble", ["write", "fetch", "prepare"])
async def test_while_a_store_is_out_of_order_its_feed_waits_and_the_others_go_on(
    desk: Desk, trouble: str
) -> None:
    shaky = ShakyTable(Tally)
    registered, other, stream = Registered(Tallies(), shaky), uses(), uuid4()
    shaky.trouble = trouble
    with desk.running(registered, other):
        await desk.append(stream, Counted(1), Labelled("x"))
        await desk.caught_up("uses.1")
        await desk.append(stream, Counted(2), Labelled("y"))
        await desk.caught_up("uses.1")
        assert desk.subscriptions()["tallies.1"].position == 0
        assert desk.quarantined() == []
        shaky.trouble = ""
        await desk.caught_up("tallies.1")
    assert desk.rows(registered)[stream].steps == [1, 2]
    assert desk.quarantined() == []


async def test_a_feed_that_is_led_alone_rests_between_its_tries(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like the subscription of the search index in its runner: it used to try again at once, for
    ever."""
    shaky, tries = ShakyTable(Tally), list[float]()
    write = shaky.write

    def counting(*values: Any) -> None:
        tries.append(time.monotonic())
        write(*values)

    monkeypatch.setattr(shaky, "write", counting)
    shaky.trouble = "write"
    registered = Registered(Tallies(), shaky)
    await desk.append(uuid4(), Counted(1))
    with desk.running(registered):
        await desk.until(lambda _: len(tries) >= 3)
        assert tries[2] - tries[0] > 1.0
        shaky.trouble = ""
        await desk.caught_up("tallies.1")


async def test_a_feed_whose_checkpoint_somebody_holds_waits_and_the_others_go_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a transaction that stays open. Challengers do not end a leader that waits for a lock."""
    monkeypatch.setattr(leadership, "LOCK_TIMEOUT", "100ms")
    with desk.running(tallies(), uses()):
        await desk.append(uuid4(), Counted(1), Labelled("x"))
        await desk.caught_up("tallies.1", "uses.1")
        with desk.connect() as conn:
            with conn.transaction():
                assert checkpoints.subscription(conn, "tallies.1", lock=True)
                await desk.append(uuid4(), Counted(1), Labelled("y"))
                await desk.caught_up("uses.1")
            assert desk.subscriptions()["tallies.1"].position == 2
        await desk.caught_up("tallies.1")


class Unannounced(Uses):
    """Reads rows that its key function did not announce."""

    name = "unannounced"

    @on(Labelled, key=lambda _event, _env: "")
    def labelled(self, rows: Rows[Use], event: Labelled, env: Envelope) -> None:
        row = rows.get(event.label) or Use(event.label, 0)
        row.uses += 1
        rows.put(row)


async def test_a_fold_that_finds_its_store_out_of_order_quarantines_nothing(desk: Desk) -> None:
    shaky = HalfShakyTable(Use)
    registered = Registered(Unannounced(), shaky)
    with desk.running(registered, uses()):
        await desk.append(uuid4(), Labelled("x"), Labelled("x"))
        await desk.caught_up("uses.1")
        assert desk.subscriptions()["unannounced.1"].position == 0
        assert desk.quarantined() == []
        shaky.trouble = ""
        await desk.caught_up("unannounced.1")
    assert desk.rows(registered)["x"].uses == 2
    assert desk.quarantined() == []


class HalfShakyTable(ShakyTable):
    """Fails for rows that were not announced."""

    trouble = "fetch"

    def fetch(self, conn: psycopg.Connection, storage: str, keys: Sequence[Any]) -> Any:
        return [] if list(keys) == [""] else super().fetch(conn, storage, keys)
