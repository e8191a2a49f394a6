"""Measures how long after an append its row can be read, with the projector in its own process.

Events arrive at a steady rate, whatever the lag. A reader in another process polls the row, and an
event counts as visible when the row first shows its position. The lag is measured twice: from the
call of `append`, including the commit, and from its return. The peer is a bare NOTIFY at the same
rate, from its call until another process receives it: it includes a commit, and nothing else.
"""

import asyncio
import multiprocessing
import time
from bisect import bisect_left
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import TypeVar
from uuid import uuid4

import psycopg
import uvloop

from benchmarks.events import CODEC, SOME, Total, Totals
from benchmarks.measuring import Aim, Case, Log, Sample, Table, line, p99, take_turns
from benchmarks.server import Server, connect_as_program
from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog
from projections.engine.runner import Registered, Runner
from projections.engine.tables import PostgresTable

PER_SECOND = 200
WARM_UP = 100
"""Events before those that count."""

POLL_SECONDS = 0.0002
"""The reader's pause between looks, so that it does not occupy a core; it adds up to this much to
every lag."""

REGISTERED = Registered(Totals(), PostgresTable(Total))
_spawn = multiprocessing.get_context("spawn")

T = TypeVar("T")

Seen = list[tuple[int, float]]
"""Number or position of an event, and the time when it was seen (monotonic seconds, one clock for
all processes)."""


def benchmark(server: Server, *, seconds: float, rounds: int, log: Log) -> Table:
    """Our lag from the call and from the return of append, and a NOTIFY's round trip."""
    events = int(seconds * PER_SECOND)
    # One run gives both lags: the second case hands out what the first measured.
    returned: list[Sample] = []
    cases = [
        Case("lag from append's call", lambda: _lag(server, events, returned)),
        Case("bare NOTIFY", partial(_notify, server, events)),
    ]
    samples = take_turns(cases, rounds, log)
    samples["lag from append's return"] = returned
    aims = [
        Aim("lag from append's call", "bare NOTIFY", at_most=10),
        Aim("lag from append's return", "bare NOTIFY", at_most=10),
    ]
    names = ("lag from append's call", "lag from append's return", "bare NOTIFY")
    return Table(
        f"From append to a row that can be read, {PER_SECOND} events/s",
        [line(name, samples, aims, figure=p99, unit="ms at p99") for name in names],
    )


# -- ours ------------------------------------------------------------------------------------------


def _lag(server: Server, events: int, returned: list[Sample]) -> Sample:
    last = WARM_UP + events
    with (
        server.fresh("ours") as url,
        _process(_project, url),
        _reporting(_watch_row, url, last) as seen,
    ):
        called, back = _run(_append(url, last))
        visible = seen()
    positions = [position for position, _ in visible]
    when = {p: visible[bisect_left(positions, p)][1] for p in range(WARM_UP + 1, last + 1)}
    returned.append(_sample(events, [at - back[position] for position, at in when.items()]))
    return _sample(events, [at - called[position] for position, at in when.items()])


async def _append(url: str, last: int) -> tuple[dict[int, float], dict[int, float]]:
    """The times when the append of each position was called and when it returned."""
    called: dict[int, float] = {}
    back: dict[int, float] = {}
    async with PostgresLog.open(url, CODEC) as log:

        async def append(_: int) -> None:
            start = time.monotonic()
            position = (await log.append([StreamAppend(uuid4(), 0, [SOME])])).position
            called[position], back[position] = start, time.monotonic()

        await _steadily(append, last)
    return called, back


def _project(url: str, ready: Connection) -> None:
    """Run the projector until the process is ended; in a process of its own."""
    runner = Runner(url, CODEC, [REGISTERED])
    ready.send("running")
    runner.run()


def _watch_row(url: str, last: int, report: Connection) -> None:
    """Watch the row's position grow to the last; in a process of its own."""
    seen: Seen = []
    with connect_as_program(url) as conn:
        while conn.execute(
            "SELECT to_regclass(%s)", (f"read.{REGISTERED.storage}",)
        ).fetchone() == (None,):
            time.sleep(0.01)
        report.send("watching")
        cursor, query = (
            conn.cursor(binary=True),
            f"SELECT position FROM read.{REGISTERED.storage}".encode(),
        )
        while not seen or seen[-1][0] < last:
            row = cursor.execute(query, prepare=True).fetchone()
            if row and (not seen or row[0] > seen[-1][0]):
                seen.append((row[0], time.monotonic()))
            time.sleep(POLL_SECONDS)
    report.send(seen)


# -- the peer --------------------------------------------------------------------------------------


def _notify(server: Server, events: int) -> Sample:
    last = WARM_UP + events
    with server.fresh() as url, _reporting(_listen, url, last) as seen:
        called = _run(_send(url, last))
        return _sample(events, [at - called[number] for number, at in seen() if number > WARM_UP])


async def _send(url: str, last: int) -> dict[int, float]:
    called: dict[int, float] = {}
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:

        async def notify(number: int) -> None:
            called[number] = time.monotonic()
            await conn.execute("SELECT pg_notify('bench', %s)", (str(number),), prepare=True)

        await _steadily(notify, last)
    return called


def _listen(url: str, last: int, report: Connection) -> None:
    """Record the time of each notification; in a process of its own."""
    seen: Seen = []
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("LISTEN bench")
        report.send("listening")
        for note in conn.notifies():
            seen.append((int(note.payload), time.monotonic()))
            if seen[-1][0] == last:
                break
    report.send(seen)


# -- common ----------------------------------------------------------------------------------------


async def _steadily(act: Callable[[int], Coroutine[None, None, None]], last: int) -> None:
    """Call act(1) … act(last) at a steady rate, without waiting for earlier calls."""
    start = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(1, last + 1):
            await asyncio.sleep(start + number / PER_SECOND - time.monotonic())
            group.create_task(act(number))


def _run(main: Coroutine[None, None, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _sample(events: int, latencies: list[float]) -> Sample:
    return Sample(events, events / PER_SECOND, latencies)


@contextmanager
def _process(target: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """Run a function in a new process until the end of the block, which begins after the function's
    first message."""
    mine, theirs = _spawn.Pipe()
    process = _spawn.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    try:
        mine.recv()
        yield mine
    finally:
        process.terminate()
        process.join()


@contextmanager
def _reporting(target: Callable[..., None], *arguments: object) -> Iterator[Callable[[], Seen]]:
    """As `_process`, for a function that sends what it saw: yields a function that waits for
    that."""

    def seen() -> Seen:
        if not pipe.poll(60):
            raise TimeoutError("not everything became visible within a minute")
        found: Seen = pipe.recv()
        return found

    with _process(target, *arguments) as pipe:
        yield seen
