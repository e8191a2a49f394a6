"""Events that cannot be applied cost their streams, and almost nothing else: however many there
are, whatever they began, and whether the fold, the row or the payload is at fault."""

import math
import random
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events import Event
from eventstore.consumers import checkpoints
from eventstore.consumers.reader import Page, Place
from eventstore.log import Envelope, StreamAppend
from projections.engine import advancing, lanes
from projections.engine.folding import TooMuchPoison, fold_page
from projections.engine.runner import Registered
from projections.engine.tables import PostgresTable
from projections.projection import Projection, Row, Rows, on
from tests.support.events.history import History, some_id
from tests.support.events.tallies import Counted, Labelled, Tallies, Tally, tallies, uses
from tests.support.growth import growth
from tests.support.shops.engine import Desk

POISON = Counted(666)


def _refusing() -> Tallies:
    projection = Tallies()
    projection.refuses = {POISON.by}
    return projection


def _page(events: Sequence[tuple[UUID, Event]]) -> Page:
    history = History()
    for stream, event in events:
        history.happened(stream, event)
    return [(_place(recorded.env), recorded.event) for recorded in history.events]


def _place(env: Envelope) -> Place:
    return Place(
        env.position, env.stream_id, env.version, env.name, env.recorded_at, env.occurred_at
    )


def _rows(store: dict[UUID, Tally], projection: Projection[Tally]) -> Rows[Tally]:
    """Rows over a store, as the engine uses them, or all in memory."""
    return Rows(Tally, lambda keys: [_twin(store[key]) for key in keys if key in store])


def _twin(row: Tally) -> Tally:
    return Tally(row.tally_id, row.total, list(row.steps), row.label, row.touched_at)


# -- undo ------------------------------------------------------------------------------------------


class Basket(Row):
    KEY = ("basket_id",)
    basket_id: str
    things: list[int]


class Baskets(Projection[Basket]):
    """Changes two rows per event, one of them after deleting it, and a list in place, before it
    fails."""

    name, version, row = "baskets", 1, Basket

    @on(Counted, key=lambda event, _: [f"b{event.by % 3}", f"b{(event.by + 1) % 3}"])
    def counted(self, rows: Rows[Basket], event: Counted, _env: Envelope) -> None:
        one, other = f"b{event.by % 3}", f"b{(event.by + 1) % 3}"
        (rows.get(one) or _put(rows, one)).things.append(event.by)
        if event.by % 7 == 0:
            rows.delete(other)
        (rows.get(other) or _put(rows, other)).things.insert(0, event.by)
        rows.put(Basket(other, [*rows[other].things, -event.by]))
        assert isinstance(event, Counted)
        if event.by % 5 == 0:
            raise ValueError("one too many")
        rows[one].things.append(0)


def _put(rows: Rows[Basket], key: str) -> Basket:
    row = Basket(key, [])
    rows.put(row)
    return row


@given(
    numbers=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), max_size=30),
    stored=st.sets(st.sampled_from(["b0", "b1", "b2"])),
    in_memory=st.booleans(),
)
def test_what_poison_touched_is_as_if_it_had_never_come(
    numbers: list[tuple[int, int]], stored: set[str], in_memory: bool
) -> None:
    page = _page([(some_id(f"stream {stream}"), Counted(number)) for stream, number in numbers])
    first: dict[UUID, int] = {}
    for env, event in page:
        assert isinstance(event, Counted)
        if event.by % 5 == 0:
            first.setdefault(env.stream_id, env.position)
    good = [
        (env, event)
        for env, event in page
        if env.position < first.get(env.stream_id, env.position + 1)
    ]

    def folded(events: Page) -> tuple[dict[UUID, int], dict[str, list[int]]]:
        rows = Rows(Basket, lambda keys: [Basket(key, [99]) for key in keys if key in stored])
        found = fold_page(Baskets(), {Counted.NAME}, rows, {}, events, prefetch=not in_memory)
        puts, deletes = rows.changes()
        after = {key: [99] for key in stored} | {row.basket_id: row.things for row in puts}
        return {p.stream_id: p.position for p in found}, {
            k: v for k, v in after.items() if k not in deletes
        }

    assert folded(page) == (first, folded(good)[1])
    assert folded(good)[0] == {}


def test_the_first_of_a_page_and_the_last_before_the_head_are_quarantined_like_any() -> None:
    one, other, last = map(some_id, ("one", "other", "last"))
    page = _page(
        [(one, POISON), (other, Counted(1)), (one, Counted(2)), (last, Counted(3)), (last, POISON)]
    )
    projection = _refusing()
    rows = _rows({}, projection)
    found = fold_page(projection, {Counted.NAME}, rows, {}, page)
    assert [(p.stream_id, p.position) for p in found] == [(one, 1), (last, 5)]
    assert {row.tally_id: row.steps for row in rows.all()} == {other: [1], last: [3]}


# -- cost ------------------------------------------------------------------------------------------


def _mixed(poison: int, good: int) -> Page:
    events = [(uuid4(), POISON) for _ in range(poison)]
    events += [(uuid4(), Counted(1)) for _ in range(good)]
    random.Random(6).shuffle(events)
    return _page(events)


def test_a_page_of_poison_costs_in_proportion_to_its_events() -> None:
    """Twice the events with twice the poison cost twice as much; the cost used to be quadratic."""
    projection = _refusing()
    pages = {size: _mixed(size // 10, size) for size in (400, 4000, 8000)}

    def fold(size: int) -> None:
        found = fold_page(projection, {Counted.NAME}, _rows({}, projection), {}, pages[size])
        assert len(found) == size // 10

    assert growth(fold, 4000) < 3


def test_a_fold_that_fails_for_every_event_is_given_up_early() -> None:
    projection = _refusing()
    with pytest.raises(TooMuchPoison, match="over 50 streams"):
        fold_page(projection, {Counted.NAME}, _rows({}, projection), {}, _mixed(500, 0), at_most=50)


# -- with a database -------------------------------------------------------------------------------


async def test_four_hundred_poisoned_streams_are_quarantined_in_one_pass(desk: Desk) -> None:
    projection = _refusing()
    registered = Registered(projection, PostgresTable(Tally))
    streams = [uuid4() for _ in range(4000)]
    bad = set(random.Random(7).sample(streams, 400))
    for step in range(2):
        events = [
            StreamAppend(s, step, [POISON if s in bad and step else Counted(step)]) for s in streams
        ]
        await desk.log.append(events)
    with desk.running(registered):
        await desk.caught_up("tallies.1")
    assert {p.stream_id for p in desk.quarantined()} == bad
    rows = desk.rows(registered)
    assert all(rows[stream].steps == ([0] if stream in bad else [0, 1]) for stream in streams)
    assert desk.verify(registered).difference.equal


@pytest.mark.parametrize("bad_of", [1, 60])
async def test_unwritable_rows_are_found_by_quartering_and_the_rest_of_the_page_goes_on_as_one(
    desk: Desk, bad_of: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = []
    table = PostgresTable(Tally)
    write = table.write

    def counting(
        conn: psycopg.Connection, storage: str, puts: Sequence[Any], deletes: Sequence[Any]
    ) -> None:
        writes.append(len(puts))
        write(conn, storage, puts, deletes)

    monkeypatch.setattr(table, "write", counting)
    streams = [uuid4() for _ in range(1000)]
    bad = set(random.Random(8).sample(streams, bad_of))
    await desk.log.append([StreamAppend(s, 0, [Counted(1)]) for s in streams])
    await desk.log.append(
        [StreamAppend(s, 1, [Labelled("\0" if s in bad else "fine")]) for s in streams]
    )
    with desk.running(Registered(Tallies(), table)):
        await desk.caught_up("tallies.1")
    assert {p.stream_id for p in desk.quarantined()} == bad
    rows = desk.rows(tallies())
    assert all(rows[s].label == (None if s in bad else "fine") for s in streams)
    assert sum(writes) < 1000 * (2 + 2 * math.log2(2 * bad_of + 1)) + 100, (
        "near linear: it halves, it does not begin again"
    )
    assert desk.verify(tallies()).difference.equal


async def test_those_who_share_a_page_with_rows_that_cannot_be_written_do_not_wait(
    desk: Desk,
) -> None:
    """The healthy one is at the head after its own work: it takes no part in splitting the page."""
    healthy = uses()
    streams = [uuid4() for _ in range(60)]
    for registered in (tallies(), healthy):
        with desk.running(registered):
            await desk.append(uuid4(), Counted(1))
            await desk.caught_up(f"{registered.projection.name}.1")
    await desk.log.append(
        [StreamAppend(s, 0, [Counted(1), Counted(2**62), Counted(2**62)]) for s in streams]
    )
    steps = 0
    move = checkpoints.move

    def counting(conn: psycopg.Connection, moves: Sequence[tuple[str, int, int]]) -> None:
        nonlocal steps
        steps += any(name == "uses.1" for name, _, _ in moves)
        move(conn, moves)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "move", counting)
        with desk.running(tallies(), healthy):
            await desk.caught_up("tallies.1", "uses.1")
    assert len(desk.quarantined()) == 60
    assert steps <= 3


async def test_a_feed_that_would_quarantine_too_much_stands_still_until_its_fold_is_mended(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(advancing, "MAX_QUARANTINED", 10)
    monkeypatch.setattr(lanes, "BACKOFF_SECONDS", (0.05, 0.1))
    projection, other = _refusing(), uses()
    registered = Registered(projection, PostgresTable(Tally))
    good = uuid4()
    with desk.running(registered, other):
        await desk.append(good, Counted(1))
        before = await desk.caught_up("tallies.1", "uses.1")
        await desk.log.append(
            [StreamAppend(uuid4(), 0, [POISON, Labelled("x")]) for _ in range(11)]
        )
        await desk.caught_up("uses.1")
        assert (desk.subscriptions()["tallies.1"].position, desk.quarantined()) == (before, [])
        projection.refuses.clear()
        await desk.caught_up("tallies.1")
    assert len(desk.rows(registered)) == 12
    assert desk.verify(registered).difference.equal


@pytest.mark.soak
async def test_a_page_of_poison_takes_about_as_long_as_a_clean_one(desk: Desk) -> None:
    """400 poisoned streams among 20,000 events used to take a hundred times as long."""
    seconds: dict[bool, float] = {}
    for refuses in (set(), {POISON.by}, set(), {POISON.by}):
        projection = Tallies()
        projection.refuses = refuses
        registered = Registered(projection, PostgresTable(Tally))
        if not seconds:
            streams = [uuid4() for _ in range(20_000)]
            bad = set(random.Random(9).sample(streams, 400))
            for start in range(0, 20_000, 2000):
                part = streams[start : start + 2000]
                await desk.log.append(
                    [StreamAppend(s, 0, [POISON if s in bad else Counted(1)]) for s in part]
                )
        desk.execute(
            "DROP TABLE IF EXISTS read.tallies_1; TRUNCATE consumers.feeds, consumers.quarantine"
            " CASCADE"
        )
        began = time.monotonic()
        with desk.running(registered):
            await desk.caught_up("tallies.1")
        seconds[bool(refuses)] = min(seconds.get(bool(refuses), 1e9), time.monotonic() - began)
    assert seconds[True] < 4 * seconds[False]
