"""Builds read models as they were (`projections.engine.past`): several at a time, and in a process
of its own for queries."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import msgspec
import psycopg

from eventstore.consumers.reader import collector_paused
from eventstore.database.postgres import connect
from projections.engine import past
from projections.engine.advancing import Registered
from projections.engine.one_pass import grouped
from projections.engine.parts import ProcessDied, Processes, usual_count
from projections.engine.past import BuiltElsewhere, BuiltModel, NoRight, ReadNow
from projections.engine.replaying import Progress
from projections.engine.side_by_side import side_by_side
from projections.registry import read_models
from runtime.settings import Settings
from runtime.wiring.codec import codec
from runtime.wiring.master_key import use_master_key

PAUSE_SECONDS = 0.1
"""The pause between two looks whether another process has built what is wanted."""

NICENESS = 5
"""By how much a build for a query gives way to the processes that serve."""


def build_missing(
    url: str,
    conn: psycopg.Connection,
    models: Sequence[Registered],
    position: int,
    *,
    count: int,
    kept: bool,
    progress: Callable[[str, int, int], None],
) -> list[BuiltModel]:
    """Build what the schema of a position lacks of these read models, with `count` processes; the
    schema is made if need be. Within `past.exclusively`, without other threads.

    Raises NoRight, ReadNow, ProcessDied, and what a store raises: what is complete stays.
    """
    past.make(url, conn, position, kept=kept)
    missing = past.missing(conn, models, position)
    connecting = partial(connect, url, "ludoteca replay")
    if len(missing) > count:
        return _side_by_side(
            connecting, missing, position, count, partial(progress, "positions replayed")
        )
    done: list[BuiltModel] = []
    with collector_paused():
        for each in missing:
            report = partial(progress, f"positions replayed into {each.projection.name}")
            processes = Processes(count, connecting)
            done.append(past.build(conn, codec(), each, position, report, processes))
    return done


def _side_by_side(
    connecting: Callable[[], psycopg.Connection],
    models: Sequence[Registered],
    position: int,
    count: int,
    progress: Progress,
) -> list[BuiltModel]:
    events = codec()
    with connecting() as conn:
        groups = grouped(conn, events, models, count)

    def work(
        group: Sequence[Registered], report: Progress
    ) -> Iterator[tuple[Registered, BuiltModel | Exception]]:
        with connecting() as conn:
            past.take_part(conn, position)
            yield from past.build_together(conn, events, group, position, report)

    done: list[BuiltModel] = []
    for _, said in side_by_side(groups, work, count, progress):
        if isinstance(said, Exception):
            raise said
        done.append(said)
    return done


# -- bounds ----------------------------------------------------------------------------------------


class Bounds(msgspec.Struct, frozen=True):
    """How many schemas are kept that queries had built, how many bytes they take, and for how many
    seconds after their last use."""

    schemas: int
    bytes: int
    seconds: float


def make_room(
    conn: psycopg.Connection, bounds: Bounds, *, room_for: int = 0, sparing: int | None = None
) -> int:
    """Drop schemas that queries had built: those not used for long, then those unused for longest,
    until with `room_for` more the bounds hold; and those that a process died making. Returns how
    many it dropped; one that is read or built stays, and the one at the position `sparing`."""
    moments = past.moments(conn)
    for position in set(past.positions(conn)) - {each.position for each in moments}:
        with suppress(BuiltElsewhere, ReadNow):
            past.drop(conn, position)
    made = [each for each in moments if not each.kept]
    made.sort(key=lambda each: each.used_at)
    now = conn.execute("SELECT clock_timestamp()").fetchone()
    assert now is not None
    dropped, size = 0, sum(each.bytes for each in made)
    for number, each in enumerate(made):
        left = len(made) - number + room_for
        idle = (now[0] - each.used_at).total_seconds()
        if idle <= bounds.seconds and left <= bounds.schemas and size <= bounds.bytes:
            break
        if each.position == sparing:
            continue
        size -= each.bytes
        with suppress(BuiltElsewhere, ReadNow):
            past.drop(conn, each.position)
            dropped += 1
    return dropped


# -- for queries -----------------------------------------------------------------------------------


class Wanted(msgspec.Struct, frozen=True):
    """What a process is to build for queries."""

    url: str
    position: int
    models: Sequence[str]
    bounds: Bounds


class Reached(msgspec.Struct, frozen=True, tag=True):
    """How far a build is."""

    percent: int


class Outcome(msgspec.Struct, frozen=True, tag=True):
    """What became of it; `error` is empty when all is there."""

    error: str = ""


PROCESSES = 2
"""How many processes fold for queries, at most: each may hold 128 MiB of rows, beside the API."""


def build_for_queries(
    wanted: Wanted, report: Callable[[Reached], None] = lambda _: None
) -> Outcome:
    """Build read models as they were: one position at a time in all processes."""
    try:
        with connect(wanted.url, "ludoteca as of") as conn:
            while True:
                with (
                    past.in_turn(conn),
                    suppress(BuiltElsewhere),
                    past.exclusively(conn, wanted.position),
                ):
                    _build(conn, wanted, report)
                    return Outcome()
                time.sleep(PAUSE_SECONDS)
    except (NoRight, ReadNow, ProcessDied) as error:
        return Outcome(str(error))


def _build(conn: psycopg.Connection, wanted: Wanted, report: Callable[[Reached], None]) -> None:
    def tell(_model: str, done: int, upto: int) -> None:
        report(Reached(100 * done // max(upto, 1)))

    known = past.moment(conn, wanted.position)
    make_room(conn, wanted.bounds, room_for=0 if known else 1)
    build_missing(
        wanted.url,
        conn,
        _named(wanted.models),
        wanted.position,
        count=min(PROCESSES, usual_count()),
        kept=False,
        progress=tell,
    )
    make_room(conn, wanted.bounds, sparing=wanted.position)  # its size is known only now


def _named(names: Iterable[str]) -> list[Registered]:
    wanted = set(names)
    return [each for each in read_models() if each.projection.name in wanted]


def main() -> None:
    """Build what stdin tells (`Wanted`), and print lines of JSON: `Reached`, and then the
    `Outcome`."""
    os.nice(NICENESS)
    use_master_key(Settings())
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Wanted)
    _say(build_for_queries(wanted, _say))


def _say(what: Reached | Outcome) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
