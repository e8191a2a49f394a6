"""Rebuilds a read model beside the live one and switches; verifies; rolls back; drops old
storages."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from eventstore.codec import Codec
from eventstore.consumers import amended, checkpoints, quarantine
from eventstore.consumers.reader import Reader
from eventstore.database.postgres import AWAY
from projections.engine import parts
from projections.engine.advancing import Registered, Subscriber, advance_one
from projections.engine.dropping import Busy, drop, exclusively
from projections.engine.parts import ProcessDied, Processes, usual_count
from projections.engine.replaying import Progress, Replay
from projections.engine.store import Difference, Store

__all__ = [
    "Busy",
    "CatchingUp",
    "NeverRan",
    "NothingEarlier",
    "ProcessDied",
    "Processes",
    "Unequal",
    "drop",
    "live",
    "rebuild",
    "rollback",
    "usual_count",
    "verify",
]

LOCK_TIMEOUT = "5s"
"""How long a switch waits for the page that the projector has in hand."""

LOCK_ATTEMPTS = 10
"""How often a switch tries to get that lock."""

ROLLBACK_TIMEOUT_SECONDS = 5.0
"""How long a rollback waits for the earlier storage to be as far as the later one."""

SWITCH_POSITIONS = 200
"""How many positions a rebuild may be behind when it stops the projector to switch."""

MAX_CATCH_UPS = 20
"""How often a rebuild tries to come that near, however heavy the load."""


class NeverRan(Exception):
    """The projection has no storage yet: no projector has run."""


class CatchingUp(Exception):
    """The projection has not caught up yet: there is nothing to compare with, or to go back to."""


class NothingEarlier(Exception):
    """There is no storage before the last rebuild to go back to."""


class Unequal(Exception):
    """The rebuilt rows differ from the live ones of the same version, which were left in place."""

    def __init__(self, projection: str, difference: Difference) -> None:
        super().__init__(
            f"{projection}: rebuilt rows differ from live:"
            f" {', '.join(difference.keys) or 'other hash'}"
        )
        self.difference = difference


class Rebuilt(msgspec.Struct, frozen=True):
    """A finished rebuild: the new storage is active; the old one is still fed, so that `rollback`
    is one command.

    `rows` and `hash` are as of `position`; events may have been folded since.
    """

    projection: str
    storage: str
    position: int
    rows: int
    hash: str


class Verified(msgspec.Struct, frozen=True):
    """A projection compared with its replay at one position, and how many of its streams are in
    quarantine."""

    projection: str
    position: int
    difference: Difference
    quarantined: int


def live(
    conn: psycopg.Connection, registered: Registered, *, lock: bool = False
) -> checkpoints.Subscription:
    """The active subscription of a projection; with `lock` its checkpoint cannot move. Raises
    NeverRan, CatchingUp."""
    rows = _of(conn, registered)
    for row in rows:
        if row.active:
            found = checkpoints.subscription(conn, row.name, lock=lock)
            if found is not None and found.active:
                return found
    for row in rows:
        if row.ready_at is not None:
            raise CatchingUp(
                f"{registered.projection.name} catches up: it is at {row.position} of"
                f" {row.ready_at}"
            )
    raise NeverRan(f"{registered.projection.name} has never run: start a projector first")


# -- verify ----------------------------------------------------------------------------------------


def verify(
    conn: psycopg.Connection, codec: Codec, registered: Registered, progress: Progress
) -> Verified:
    """Fold the whole log aside, and compare with the live rows at the same position. Raises
    NeverRan; CatchingUp while rows that several streams feed are about to be folded anew.

    A snapshot (for a search index, the lock on its checkpoint) is held only for the last events and
    the comparison, not while the log is read.
    """
    aside, storage = registered.store.aside(), f"{registered.storage}_replayed"
    with looking_up(conn):
        try:
            while True:
                row = live(conn, registered)
                _must_not_be_read_anew(conn, registered, row)
                replay = Replay(conn, codec, registered.projection, aside, storage, row.name)
                before = set(replay.quarantined)
                replay.advance(row.position, progress)
                replay.advance(live(conn, registered).position, progress)
                replay.write()
                compared = _compare(conn, registered, replay.finish_at, aside, storage)
                same = compared.quarantined in (before, replay.quarantined.keys())
                if same and compared.amended == replay.amended:
                    difference = _with_streams(
                        compared.difference, replay.quarantined.keys() - compared.quarantined
                    )
                    return Verified(
                        registered.projection.name,
                        compared.position,
                        difference,
                        len(compared.quarantined),
                    )
                # A stream was quarantined or released meanwhile, or an event amended: compare with
                # a new replay.
        finally:
            with suppress(*AWAY):
                aside.drop(conn, storage)


def _must_not_be_read_anew(
    conn: psycopg.Connection, registered: Registered, row: checkpoints.Subscription
) -> None:
    """Until a read model in which several streams meet is folded anew, it has the events that were
    amended as they were read before."""
    if registered.projection.mixes_streams and any(
        each.retry and each.error == amended.TO_BE_READ_ANEW
        for each in quarantine.held(conn, [row.name])
    ):
        name = registered.projection.name
        raise CatchingUp(f"{name} is to be folded anew, as an event was amended")


def _with_streams(difference: Difference, streams: Collection[UUID]) -> Difference:
    """The difference, together with the streams that only the replay could not apply."""
    return msgspec.structs.replace(
        difference, keys=[*(f"stream {id_}" for id_ in streams), *difference.keys]
    )


class _Comparison(msgspec.Struct, frozen=True):
    """Live rows compared with replayed ones at a position, and the streams that the live
    subscription had in quarantine there."""

    position: int
    amended: int
    quarantined: set[UUID]
    difference: Difference


def _compare(
    conn: psycopg.Connection,
    registered: Registered,
    advance: Callable[[int], None],
    store: Store[Any],
    storage: str,
) -> _Comparison:
    """Compare the live rows at one moment with replayed ones, which `advance` brings to the same
    position."""
    transactional = registered.store.transactional
    with conn.transaction():
        if transactional:
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        row = live(conn, registered, lock=not transactional)
        quarantined = {p.stream_id for p in quarantine.held(conn, [row.name])}
        frozen = registered.store.frozen(conn, row.storage)
        if transactional:
            advance(row.position)
            conn.execute("SET LOCAL enable_seqscan = on")
            return _Comparison(
                row.position, row.amended, quarantined, frozen.compare(conn, store, storage)
            )
    advance(row.position)
    return _Comparison(row.position, row.amended, quarantined, frozen.compare(conn, store, storage))


@contextmanager
def looking_up(conn: psycopg.Connection) -> Iterator[None]:
    """Make the planner look rows up by their keys: a page touches few rows of a large table."""
    conn.execute("SET enable_seqscan = off")
    try:
        yield
    finally:
        with suppress(*AWAY):
            conn.execute("RESET enable_seqscan")


# -- rebuild ---------------------------------------------------------------------------------------


def rebuild(
    conn: psycopg.Connection,
    codec: Codec,
    registered: Registered,
    progress: Progress,
    *,
    replace: bool = False,
    retried: Collection[UUID] = (),
    processes: Processes | None = None,
) -> Rebuilt:
    """Fold the log into a new storage beside the live one, compare both, and switch queries over.

    `processes` lets further processes fold: not for a process with other threads.
    With `replace` the new storage takes the place of the live one even if they differ. Quarantined
    streams are left out, except those `retried`, which may be quarantined again. Raises Busy,
    NeverRan, Unequal, ProcessDied (then nothing changed), psycopg.errors.LockNotAvailable.
    """
    with exclusively(conn, registered.projection.name), looking_up(conn):
        begun = begin(conn, codec, registered, retried)
        with begun.dropped_on_failure(conn):
            if processes is not None:
                parts.advance(conn, begun.replay, processes, begun.upto, progress)
            begun.replay.advance(begun.upto, progress)
            return begun.finish(conn, replace=replace)


class Begun(msgspec.Struct, frozen=True):
    """A rebuild under way: the subscription `name`, which no projector touches yet, and a replay
    into its storage, first to `upto`, where the live subscription was when it began."""

    registered: Registered
    name: str
    replay: Replay
    upto: int

    @contextmanager
    def dropped_on_failure(self, conn: psycopg.Connection) -> Iterator[None]:
        """Drop what was built if the block fails."""
        try:
            yield
        except BaseException:
            with suppress(*AWAY):  # the connection is lost: the next rebuild drops it
                drop(conn, self.registered.store, self.name)
            raise

    def finish(self, conn: psycopg.Connection, *, replace: bool) -> Rebuilt:
        """Fold the last events, compare, and switch: see `rebuild`."""
        registered, storage = self.registered, self.replay.storage
        shadow = self._filled(conn)
        reader = self.replay.reader
        if replace:
            position, (rows, digest) = shadow.position, registered.store.digest(conn, storage)
        else:
            catch_up = partial(_catch_up, conn, reader, shadow)
            compared = _compare(conn, registered, catch_up, registered.store, storage)
            if not compared.difference.equal:
                raise Unequal(registered.projection.name, compared.difference)
            position, rows, digest = (
                compared.position,
                compared.difference.replayed,
                compared.difference.replayed_hash,
            )
        _switch(conn, reader, registered, shadow)
        return Rebuilt(registered.projection.name, storage, position, rows, digest)

    def _filled(self, conn: psycopg.Connection) -> Subscriber:
        """Complete the new storage up to the live subscription."""
        registered, replay = self.registered, self.replay
        replay.finish_at(live(conn, registered).position)
        registered.store.finish(conn, replay.storage)
        with conn.transaction():
            checkpoints.move(conn, [(self.name, 0, replay.position)])
            quarantine.add(
                conn,
                self.name,
                [(stream_id, *reason) for stream_id, reason in replay.quarantined.items()],
            )
        built = checkpoints.subscription(conn, self.name)
        assert built is not None
        shadow = Subscriber(registered.projection, registered.store, built, replay.reader.names)
        shadow.attach(conn)
        return shadow


def begin(
    conn: psycopg.Connection, codec: Codec, registered: Registered, retried: Collection[UUID] = ()
) -> Begun:
    """Begin a rebuild: drop what earlier ones left, and make a new storage. Raises NeverRan."""
    drop_inactive(conn, registered)
    row = live(conn, registered)
    name, storage = _new(conn, registered)
    projection, store = registered.projection, registered.store
    # so that a later rebuild finds the storage if this process dies
    with conn.transaction():
        checkpoints.add_building(conn, name, projection.name, projection.version, storage, 0)
        replay = Replay(conn, codec, projection, store, storage, row.name, retried)
        amended.taken_up(conn, name, replay.amended)
    return Begun(registered, name, replay, row.position)


def _new(conn: psycopg.Connection, registered: Registered) -> tuple[str, str]:
    """Names for a new subscription and its storage."""
    projection, rows = registered.projection, _of(conn, registered)
    # a subscription may have the name of another's storage
    taken = {row.name for row in rows} | {row.storage for row in rows}
    for number in count(1):
        name, storage = (
            f"{projection.name}.{projection.version}.r{number}",
            f"{registered.storage}_r{number}",
        )
        if not {name, storage} & taken:
            break
    return name, storage


def _catch_up(conn: psycopg.Connection, reader: Reader, shadow: Subscriber, upto: int) -> None:
    while shadow.position < upto:
        advance_one(conn, reader, shadow, upto)


def _switch(
    conn: psycopg.Connection, reader: Reader, registered: Registered, shadow: Subscriber
) -> None:
    """Switch in one short transaction: lock the live subscription, fold the last events, let
    queries read the new storage."""
    for tries_left in reversed(range(LOCK_ATTEMPTS)):
        for _ in range(MAX_CATCH_UPS):
            position = live(conn, registered).position
            if position - shadow.position <= SWITCH_POSITIONS:
                break
            _catch_up(conn, reader, shadow, position)
        try:
            with conn.transaction():
                conn.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                row = live(conn, registered, lock=True)
                _catch_up(conn, reader, shadow, row.position)
                checkpoints.activate(conn, row.name, shadow.name)
                registered.store.activated(shadow.storage)
            return
        except psycopg.errors.LockNotAvailable:
            if not tries_left:
                raise
            shadow.attach(conn)  # its last steps were rolled back


def rollback(conn: psycopg.Connection, registered: Registered) -> str:
    """Activate the storage before the last rebuild again; returns its name.

    Raises NeverRan, NothingEarlier, Busy; CatchingUp when it lags behind the active one.
    """
    name = registered.projection.name
    deadline = time.monotonic() + ROLLBACK_TIMEOUT_SECONDS
    with exclusively(conn, name):
        while True:
            with conn.transaction():
                row = live(conn, registered, lock=True)
                others = [
                    r
                    for r in _of(conn, registered)
                    if not r.active and not r.building and r.ready_at is None
                ]
                if not others:
                    raise NothingEarlier(
                        f"{name} has no earlier storage to go back to: none was rebuilt, or it was"
                        " dropped"
                    )
                if others[-1].position >= row.position:
                    checkpoints.activate(conn, row.name, others[-1].name)
                    registered.store.activated(others[-1].storage)
                    return others[-1].storage
            if time.monotonic() > deadline:
                raise CatchingUp(
                    f"{others[-1].storage} is at {others[-1].position} of {row.position}: is it"
                    " fed?"
                )
            time.sleep(0.02)


# -- storages --------------------------------------------------------------------------------------


def drop_inactive(conn: psycopg.Connection, registered: Registered) -> None:
    """Drop what earlier rebuilds left, except storages that somebody still reads."""
    for row in _of(conn, registered):
        if not row.active and row.ready_at is None:
            drop(conn, registered.store, row.name)


def _of(conn: psycopg.Connection, registered: Registered) -> list[checkpoints.Subscription]:
    key = (registered.projection.name, registered.projection.version)
    return [row for row in checkpoints.subscriptions(conn) if (row.projection, row.version) == key]
