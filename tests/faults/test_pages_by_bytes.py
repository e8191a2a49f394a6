"""Memory use does not depend on the size of events: all readers of the log read pages of bounded
bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors

from eventstore import pages
from eventstore.chain import GENESIS, ChainVerifier
from eventstore.consumers import reader as reading
from eventstore.consumers.reader import Reader
from eventstore.log import FIRST_EVENTS, StreamAppend, pages_of
from projections.engine.runner import Registered
from projections.engine.tables import PostgresTable
from runtime.events.lines import Selection
from runtime.events.lines import pages as exported
from tests.support.events.tallies import CODEC, Counted, Labelled, Tallies, Tally, tallies, uses
from tests.support.shops.engine import Desk

LARGE = "x" * 10_000


@pytest.fixture
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pages, of three large events or of a few small ones."""
    monkeypatch.setattr(reading, "PAGE_BYTES", 35_000)
    monkeypatch.setattr(reading, "SMALL_PAGE_EVENTS", 1)
    monkeypatch.setattr(pages, "PAGE_BYTES", 35_000)


async def _mixed(desk: Desk) -> int:
    """Small events, then large ones, one larger than a page, and small ones again."""
    stream = uuid4()
    await desk.append(stream, *[Counted(1)] * 100)
    await desk.append(stream, *[Labelled(LARGE)] * 10)
    await desk.append(stream, Labelled("y" * 100_000))
    return (await desk.append(stream, *[Counted(1)] * 100, Labelled("end"))).position


@pytest.mark.usefixtures("_small_pages")
async def test_pages_of_projections_end_where_their_bytes_do_and_leave_out_nothing(
    desk: Desk,
) -> None:
    head = await _mixed(desk)
    reader = Reader(CODEC, [Counted.NAME, Labelled.NAME])
    seen, sizes, after = [], [], 0
    with desk.connect() as conn:
        while after < head:
            page, after = reader.next_page(conn, after, head)
            seen += [env.position for env, _ in page]
            sizes.append(sum(len(event.label) for _, event in page if isinstance(event, Labelled)))
    assert seen == list(range(1, head + 1))
    assert max(size for size in sizes if size < 100_000) <= 35_000
    assert sorted(sizes)[-1] == 100_000, "one that is larger than a page is a page"
    assert len(sizes) < 20, "small events are not read one by one after large ones"


@pytest.mark.usefixtures("_small_pages")
async def test_pages_of_other_readers_end_where_their_bytes_do_and_leave_out_nothing(
    desk: Desk,
) -> None:
    head = await _mixed(desk)
    seen, after = [], 0
    while after < head:
        rows, after = await desk.log.read_page(after, head)
        assert sum(len(payload) for _, payload in rows) <= 35_000 or len(rows) == 1
        seen += [env.position for env, _ in rows]
    assert seen == list(range(1, head + 1))

    seen, after = [], 0
    while after < head:  # of certain names, which the page after the last one need not have
        rows, after = await desk.log.read_page(after, head, names=[Labelled.NAME], limit=4)
        seen += [env.position for env, _ in rows]
    assert seen == [*range(101, 112), head]

    (stream,) = {env.stream_id for env, _ in rows}
    by_stream = [
        [recorded.env.version for recorded in page] async for page in pages_of(desk.log, stream)
    ]
    assert [version for page in by_stream for version in page] == list(range(1, head + 1))
    sizes = [len(page) for page in by_stream]
    assert sizes == [FIRST_EVENTS, 103 - FIRST_EVENTS, 3, 3, 1, 1, 101]
    for limit in (4, 1_000):  # also for callers that ask until no more come
        seen, after = [], 0
        while raw := await desk.log.read_stream_raw(stream, after, limit=limit):
            assert sum(len(payload) for _, payload in raw) <= 35_000 or len(raw) == 1
            seen += [env.version for env, _ in raw]
            after = seen[-1]
        assert seen == list(range(1, head + 1))

    seen = []
    async for events in desk.log.subscribe(0):
        seen += [recorded.env.position for recorded in events]
        if seen[-1] == head:
            break
    assert seen == list(range(1, head + 1))

    found = [len(page) async for page in exported(desk.log.pool, Selection(), 0, head)]
    assert sum(found) == head
    assert len(found) > 4
    steps = [step async for step in desk.log.verify(ChainVerifier(0, GENESIS), upto=head)]
    assert steps[-1] == head
    assert len(steps) > 4


@pytest.mark.usefixtures("_small_pages")
async def test_a_read_model_of_large_events_is_folded_and_replayed_alike(desk: Desk) -> None:
    await _mixed(desk)
    both = tallies(), uses()
    with desk.running(*both):
        await desk.caught_up("tallies.1", "uses.1")
    assert all(desk.verify(registered).difference.equal for registered in both)
    assert desk.quarantined() == []


# -- too much at once ------------------------------------------------------------------------------


class WeakTable(PostgresTable[Any]):
    """A table whose server gives up for a while, or at more than a few rows."""

    def __init__(self, error: type[Exception], gives_up: Callable[[list[Any]], bool]) -> None:
        super().__init__(Tally)
        self.error = error
        self.gives_up = gives_up

    def write(self, conn: psycopg.Connection, storage: str, puts: Any, deletes: Any) -> None:
        if self.gives_up(puts):
            raise self.error("too much")
        super().write(conn, storage, puts, deletes)


@pytest.mark.parametrize(
    "error", [errors.QueryCanceled, errors.OutOfMemory, errors.StatementTooComplex]
)
async def test_a_page_that_is_too_large_is_split(desk: Desk, error: type[Exception]) -> None:
    registered = Registered(Tallies(), WeakTable(error, lambda puts: len(puts) > 5))
    await desk.log.append([StreamAppend(uuid4(), 0, [Counted(1)]) for _ in range(100)])
    with desk.running(registered):
        await desk.caught_up("tallies.1")
    assert desk.quarantined() == []
    assert len(desk.rows(registered)) == 100


async def test_an_event_at_which_the_server_gave_up_once_is_not_at_fault(desk: Desk) -> None:
    left = 2
    stream = uuid4()

    def gives_up(puts: list[Any]) -> bool:
        nonlocal left
        left -= any(row.tally_id == stream for row in puts)
        return left >= 0

    registered = Registered(Tallies(), WeakTable(errors.QueryCanceled, gives_up))
    with desk.running(registered):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")
    assert desk.quarantined() == []
    assert desk.rows(registered)[stream].steps == [1]


async def test_an_event_at_which_the_server_always_gives_up_is_quarantined(desk: Desk) -> None:
    bad, good = uuid4(), uuid4()
    table = WeakTable(errors.OutOfMemory, lambda puts: any(row.tally_id == bad for row in puts))
    registered = Registered(Tallies(), table)
    with desk.running(registered):
        await desk.append(bad, Counted(1))
        await desk.append(good, Counted(1))
        await desk.caught_up("tallies.1")
    assert [p.stream_id for p in desk.quarantined()] == [bad]
    assert desk.rows(registered).keys() == {good}


# -- memory ----------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.parametrize("size", [150_000, 1_000_000])
async def test_a_projector_takes_no_more_memory_for_large_events(desk: Desk, size: int) -> None:
    """300 MB of events: a projector used to need some thirty bytes per character."""
    stream = uuid4()
    await desk.append(stream, Counted(1))
    for _ in range(300):
        await desk.append(stream, *[Labelled("x" * size)] * (1_000_000 // size))
    with desk.running_process() as process:
        await desk.caught_up("tallies.1", "uses.1")
        peak = _peak_megabytes(process.pid)
    assert peak < 400


def _peak_megabytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(
        int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM")
    )
