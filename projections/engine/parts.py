"""Replays a projection in several processes, each of which folds the streams of one part.

Folding is Python, so that threads would take turns. The processes are forked, and so have the
projection and its store as they are here; each opens a connection of its own, and writes its rows
into the same storage. For a process whose other threads hold no lock that folding needs, such as
the command line's, where one may draw a progress bar.
"""

import gc
import logging
import os
import pickle
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import connection, get_context
from uuid import UUID

import msgspec
import psycopg

from eventstore.consumers import checkpoints
from kit.children import end_with_parent
from kit.wording import described
from projections.engine.folding import StoreFailed
from projections.engine.replaying import Progress, Quarantine, Replay

MAX_PROCESSES = 4
"""The most processes that a rebuild uses unless told otherwise: PostgreSQL needs cores, too."""

EVENTS_EACH = 5_000
"""As many events are worth one more process: a start takes some 20 ms, and each process has
PostgreSQL pass over the whole log, to find the events of its part."""

_SAMPLE = """
SELECT 100 * count(*) FROM log.events TABLESAMPLE SYSTEM (1)
WHERE position <= %s AND name = ANY (%s)"""

_FORK = get_context("fork")


class Processes(msgspec.Struct, frozen=True):
    """How many processes may replay at a time, and how each connects."""

    count: int
    connect: Callable[[], psycopg.Connection]


class ProcessDied(Exception):
    """A process that replayed a part ended without saying why: somebody killed it."""


def usual_count() -> int:
    """How many processes a rebuild uses unless told otherwise: one for each core."""
    return min(MAX_PROCESSES, len(os.sched_getaffinity(0)))


def advance(
    conn: psycopg.Connection, replay: Replay, processes: Processes, upto: int, progress: Progress
) -> None:
    """Fold up to a position, and write, in as many processes as are worth it; does nothing where
    that is one, or where rows are fed by several streams, which must be folded in order.

    Raises ProcessDied, and what a process raised: StoreFailed if it cannot be passed on.
    """
    if processes.count < 2 or not replay.is_divisible:
        return
    events = conn.execute(_SAMPLE, (upto, replay.reader.names)).fetchone()
    count = min(processes.count, events[0] // EVENTS_EACH if events else 0)
    if count < 2:
        return
    replay.prepare_parts()
    with _started(replay, processes, count, upto) as pipes:
        quarantined = _collected(pipes, upto, progress)
    replay.parts_done(upto, quarantined)


# -- here ------------------------------------------------------------------------------------------


@contextmanager
def _started(
    replay: Replay, processes: Processes, count: int, upto: int
) -> Iterator[list[connection.Connection]]:
    """Processes that end with the block, and what they say."""
    pipes, started = [], []
    try:
        for number in range(count):
            receiving, sending = _FORK.Pipe(duplex=False)
            process = _FORK.Process(
                target=_run,
                args=(replay, processes, (number, count), upto, sending),
                daemon=True,
            )
            process.start()
            sending.close()  # so that its end shows here
            pipes.append(receiving)
            started.append(process)
        yield pipes
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.join()
        for pipe in pipes:
            pipe.close()


def _collected(
    pipes: list[connection.Connection], upto: int, progress: Progress
) -> Mapping[UUID, Quarantine]:
    """The streams that the processes quarantined, once all have ended."""
    positions = dict.fromkeys(pipes, 0)
    running, quarantined = set(pipes), dict[UUID, Quarantine]()
    while running:
        for pipe in connection.wait(running):
            assert isinstance(pipe, connection.Connection)
            try:
                said = pipe.recv()
            except EOFError as error:
                raise ProcessDied("a process that folds a part of the streams died") from error
            if isinstance(said, Exception):
                raise said
            if isinstance(said, dict):
                quarantined.update(said)
                running.discard(pipe)
            else:
                positions[pipe] = said
                progress(sum(positions.values()) // len(positions), upto)
    return quarantined


# -- in each process -------------------------------------------------------------------------------


def _run(
    replay: Replay,
    processes: Processes,
    part: tuple[int, int],
    upto: int,
    sending: connection.Connection,
) -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    # A thread that draws a progress bar may have held the terminal's lock at the fork, and is not
    # here to release it. What fails is passed on.
    logging.disable()
    gc.freeze()
    gc.disable()  # short-lived: what a cycle holds goes with the process

    def report(done: int, _all: int) -> None:
        sending.send(done)

    try:
        with processes.connect() as conn:
            checkpoints.take_part(conn, replay.name)
            conn.execute("SET enable_seqscan = off")
            report(0, upto)
            replay.become_part(conn, part)
            replay.advance(upto, report)
            replay.write()
        sending.send(replay.quarantined)
    except Exception as error:
        with suppress(BrokenPipeError):
            sending.send(portable(error))


def portable(error: Exception) -> Exception:
    """The error, or if it cannot be passed to another process, one that says the same."""
    try:
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:
        return StoreFailed(described(error))
    return copy if isinstance(copy, type(error)) else StoreFailed(described(error))
