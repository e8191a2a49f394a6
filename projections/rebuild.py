"""Rebuild beside live and switch; verify; roll back. What `ludoteca projections` does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import psycopg

from eventstore.codec import Codec
from eventstore.postgres import AWAY
from projections import feeds
from projections.engine import CATCH_UP_PAGE, Feed, Registered, advance_one
from projections.folding import fold_page
from projections.projection import Rows
from projections.reading import Reader, collector_paused
from projections.store import Difference

Progress = Callable[[int, int], None]
"""Called with positions done and positions to do."""

LOCK_TIMEOUT = "5s"


class Busy(Exception):
    """Another process rebuilds this projection."""


class NeverRan(Exception):
    """The projection has no storage yet: no projector has run."""


class Unequal(Exception):
    """The rebuilt rows differ from the live ones of the same version, which were left in place."""

    def __init__(self, projection: str, difference: Difference) -> None:
        super().__init__(f"{projection}: rebuilt rows differ from live: {', '.join(difference.keys) or 'other hash'}")
        self.difference = difference


class Rebuilt(msgspec.Struct, frozen=True):
    """A finished rebuild: the new storage is active; the old one is still fed, so that `rollback` is one command."""

    projection: str
    storage: str
    position: int
    rows: int
    hash: str


class Verified(msgspec.Struct, frozen=True):
    """A projection compared with its replay at one position, and how many of its streams are in quarantine."""

    projection: str
    position: int
    difference: Difference
    parked: int


class Replay:
    """A projection folded from the start, all rows in memory.

    The streams that `feed` has in quarantine now are left out from where they were parked: this is what its rows
    should be. Whether they could be applied by now, `retry` finds out.
    """

    def __init__(self, conn: psycopg.Connection, codec: Codec, registered: Registered, feed: str) -> None:
        self._conn, self._projection = conn, registered.projection
        self.reader = Reader(codec, codec.names_of(registered.projection.folds))
        self._names = frozenset(self.reader.names)
        self.parked = {p.stream_id: (p.position, p.name, p.error) for p in feeds.parked(conn, [feed])}
        self.position = 0
        self._rows: Rows[Any] = Rows(registered.projection.row)

    def advance(self, upto: int, progress: Progress = lambda _done, _all: None) -> None:
        """Fold up to a position. Streams of which an event cannot be applied are set aside from there."""
        while self.position < upto:
            end = min(upto, self.position + CATCH_UP_PAGE)
            self._fold(end)
            self.position = end
            progress(end, upto)

    @collector_paused()
    def _fold(self, end: int) -> None:
        page = self.reader.page(self._conn, self.position, end)
        parked = {stream_id: position for stream_id, (position, _, _) in self.parked.items()}
        for found in fold_page(self._projection, self._names, self._rows, parked, page, prefetch=False):
            self.parked[found.stream_id] = found[1:]

    @property
    def rows(self) -> list[Any]:
        """Every row at `position`."""
        return self._rows.all()


def live(conn: psycopg.Connection, registered: Registered, *, lock: bool = False) -> feeds.FeedRow:
    """The active feed of a projection, standing still if locked. Raises NeverRan."""
    projection = registered.projection
    for row in feeds.feeds(conn):
        if row.active and (row.projection, row.version) == (projection.name, projection.version):
            found = feeds.feed(conn, row.feed, lock=lock)
            if found is not None and found.active:
                return found
    raise NeverRan(f"{projection.name} has never run: start a projector first")


def verify(conn: psycopg.Connection, codec: Codec, registered: Registered, progress: Progress) -> Verified:
    """Fold from zero and compare with the live rows at the same position; changes nothing. Raises NeverRan."""
    replay = None
    if not registered.store.transactional:  # its rows are in no snapshot: hold the feed, but only for the last steps
        row = live(conn, registered)
        replay = Replay(conn, codec, registered, row.feed)
        replay.advance(row.position, progress)
    with conn.transaction():
        if registered.store.transactional:
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        row = live(conn, registered, lock=not registered.store.transactional)
        parked = feeds.parked(conn, [row.feed])
        if replay is None or set(replay.parked) != {p.stream_id for p in parked}:
            replay = Replay(conn, codec, registered, row.feed)
        replay.advance(row.position, progress)
        difference = registered.store.compare(conn, row.storage, replay.rows)
        return Verified(registered.projection.name, row.position, difference, len(parked))


def rebuild(
    conn: psycopg.Connection, codec: Codec, registered: Registered, progress: Progress, *, replace: bool = False
) -> Rebuilt:
    """Fold the log into a new storage beside the live one, compare both, and switch queries over.

    With `replace` the live one is known to be wrong: the new one takes its place whatever the difference.
    Raises Busy, NeverRan, Unequal (then nothing changed), psycopg.errors.LockNotAvailable.
    """
    name = registered.projection.name
    with _alone(conn, name):
        _drop_inactive(conn, registered)
        row = live(conn, registered)
        replay = Replay(conn, codec, registered, row.feed)
        replay.advance(row.position, progress)
        shadow = _shadow(conn, registered, replay)
        try:
            _catch_up(conn, replay.reader, shadow, live(conn, registered).position)
            compared = None
            if registered.store.transactional and not replace:
                compared = _compare_in_snapshot(conn, replay.reader, registered, shadow)
            return _switch(conn, replay.reader, registered, shadow, replace, compared)
        except BaseException:
            with suppress(*AWAY):  # connection lost: the next rebuild drops it
                drop(conn, registered, shadow.name)
            raise


def rollback(conn: psycopg.Connection, registered: Registered) -> str:
    """Make the storage before the last rebuild the active one again; returns its name. Raises NeverRan."""
    projection = registered.projection
    with _alone(conn, projection.name), conn.transaction():
        row = live(conn, registered, lock=True)
        others = [r for r in _of(conn, registered) if not r.active and not r.building]
        if not others:
            raise NeverRan(f"{projection.name} has no earlier storage to go back to")
        feeds.activate(conn, row.feed, others[-1].feed)
        registered.store.activated(others[-1].storage)
        return others[-1].storage


def drop(conn: psycopg.Connection, registered: Registered, feed_name: str) -> None:
    """Drop a feed that is not active, and its storage. Raises psycopg.errors.LockNotAvailable: somebody reads it."""
    with conn.transaction():
        conn.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        row = feeds.feed(conn, feed_name, lock=True)
        if row is None or row.active:
            return
        feeds.remove(conn, feed_name)
        registered.store.drop(conn, row.storage)


def _of(conn: psycopg.Connection, registered: Registered) -> list[feeds.FeedRow]:
    key = (registered.projection.name, registered.projection.version)
    return [row for row in feeds.feeds(conn) if (row.projection, row.version) == key]


@contextmanager
def _alone(conn: psycopg.Connection, projection: str) -> Iterator[None]:
    if not feeds.try_lead(conn, f"rebuild {projection}"):
        raise Busy(f"{projection} is being rebuilt by another process")
    try:
        yield
    finally:
        if not conn.closed:
            feeds.stop_leading(conn, f"rebuild {projection}")


def _drop_inactive(conn: psycopg.Connection, registered: Registered) -> None:
    for row in _of(conn, registered):
        if not row.active:
            drop(conn, registered, row.feed)


def _shadow(conn: psycopg.Connection, registered: Registered, replay: Replay) -> Feed:
    """The new storage, filled, with a feed of its own that no projector touches yet."""
    projection, taken = registered.projection, {row.storage for row in _of(conn, registered)}
    number = next(n for n in range(1, 1_000_000) if f"{registered.storage}_r{n}" not in taken)
    storage, name = f"{registered.storage}_r{number}", f"{projection.name}.{projection.version}.r{number}"
    with conn.transaction():
        registered.store.drop(conn, storage)
        registered.store.load(conn, storage, replay.rows)
        feeds.add_building(conn, name, projection.name, projection.version, storage, replay.position)
        feeds.park(conn, name, [(stream_id, *parked) for stream_id, parked in replay.parked.items()])
    row = feeds.feed(conn, name)
    assert row is not None
    shadow = Feed(projection, registered.store, row, replay.reader.names)
    shadow.attach(conn)
    return shadow


def _catch_up(conn: psycopg.Connection, reader: Reader, shadow: Feed, upto: int) -> None:
    while shadow.position < upto:
        advance_one(conn, reader, shadow, upto)


def _compare_in_snapshot(
    conn: psycopg.Connection, reader: Reader, registered: Registered, shadow: Feed
) -> tuple[int, str]:
    """Live rows and their checkpoint in one snapshot, which blocks nobody; the shadow is brought to the same point.

    Returns the count and hash of its rows there. Raises Unequal.
    """
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        row = live(conn, registered)
        stored = registered.store.digest(conn, row.storage)
    _catch_up(conn, reader, shadow, row.position)
    rebuilt = registered.store.digest(conn, shadow.storage)
    _check(registered, stored, rebuilt)
    return rebuilt


def _check(registered: Registered, stored: tuple[int, str], rebuilt: tuple[int, str]) -> None:
    if stored != rebuilt:
        raise Unequal(registered.projection.name, Difference(stored[0], rebuilt[0], stored[1], rebuilt[1]))


def _switch(
    conn: psycopg.Connection,
    reader: Reader,
    registered: Registered,
    shadow: Feed,
    replace: bool,
    compared: tuple[int, str] | None,
) -> Rebuilt:
    """One short transaction: the live feed stands still, the shadow takes its last steps, queries change over.

    `compared` are count and hash of the shadow's rows as it is now: where it need not move, they are not read again.
    """
    with conn.transaction():
        conn.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        row = live(conn, registered, lock=True)
        before = shadow.position
        _catch_up(conn, reader, shadow, row.position)
        if compared is None or shadow.position != before:
            compared = registered.store.digest(conn, shadow.storage)
        count, digest = compared
        if not registered.store.transactional and not replace:
            _check(registered, registered.store.digest(conn, row.storage), (count, digest))
        feeds.activate(conn, row.feed, shadow.name)
        registered.store.activated(shadow.storage)
    return Rebuilt(registered.projection.name, shadow.storage, row.position, count, digest)
