"""The engine: keeps projections' rows in step with the log.

A `Runner` is a thread that leads a set of feeds. Feeds at the same checkpoint go together: one read of the log, one
transaction for all their rows and checkpoints. A feed that lags is caught up in pages until it joins the others.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from eventstore.codec import Codec
from eventstore.postgres import AT_FAULT, AWAY, connect
from eventstore.release import OutdatedRelease, require_current
from projections import feeds
from projections.folding import Poisoned, RowsRefused, StorageLost, StoreFailed, described, fold_page
from projections.projection import Projection, Rows
from projections.reading import Page, Reader, collector_paused
from projections.store import Store

log = logging.getLogger(__name__)

CATCH_UP_PAGE = 50_000
"""Positions per step at most. A row is written once per page, however often it is touched: the larger the page the
fewer the writes. One of small events (100 bytes of payload) takes 75 MB while it lasts."""

RESCAN_SECONDS = 1.0
"""How often a runner looks for feeds whose leader died; changes of ours are notified."""

REST_SECONDS = (1.0, 5.0)
"""The first and the longest pause of a feed whose store is in trouble; the others go on."""

CACHED_ROWS = 20_000
"""Rows that a feed keeps in memory between pages: as its only writer it need not read them again."""

MOST_PARKED = 1_000
"""Streams that a feed has in quarantine at most. More than that are no fault of the events: the feed stands still, as
it is, rather than leave ever more out of its rows."""

SAID_AT_ONCE = 10
"""Streams of which the log says one by one that they were parked, per page."""

POISON: tuple[type[Exception], ...] = (*AT_FAULT, UnicodeEncodeError, OverflowError, msgspec.MsgspecError, RowsRefused)
"""Errors of writing for which the rows themselves are at fault: trying again would end the same."""

ENDS_THE_LEAD: tuple[type[Exception], ...] = (*AWAY, feeds.CheckpointMoved)
"""Errors after which the runner begins anew: with another connection, and the checkpoints as they are there."""


class Feed:
    """A projection being folded into one storage, up to a checkpoint."""

    def __init__(
        self, projection: Projection[Any], store: Store[Any], row: feeds.FeedRow, names: Collection[str]
    ) -> None:
        self.projection, self.store = projection, store
        self.names = frozenset(names)  # the wire names that it folds
        self.name, self.storage = row.feed, row.storage
        self.position = row.position
        self.parked: dict[UUID, int] = {}
        self.newly_parked: list[Poisoned] = []
        self.stride = CATCH_UP_PAGE  # smaller for a while after a page could not be written
        self._conn: psycopg.Connection | None = None
        self.rows: Rows[Any] = Rows(projection.row, self._fetch, CACHED_ROWS)

    def attach(self, conn: psycopg.Connection) -> None:
        """Start from what the database has."""
        self._conn = conn
        self.rows.discard()
        self.parked = {p.stream_id: p.position for p in feeds.parked(conn, [self.name])}

    def _fetch(self, keys: Sequence[object]) -> Iterable[msgspec.Struct]:
        assert self._conn is not None
        try:
            return list(self.store.fetch(self._conn, self.storage, keys))
        except (psycopg.Error, StoreFailed):
            raise
        except Exception as error:
            raise StoreFailed(f"{type(error).__name__}: {error}") from error

    def fold(self, page: Page) -> None:
        """Fold a page in memory; parks the streams of events that cannot be applied. Raises TooMuchPoison."""
        room = max(0, MOST_PARKED - len(self.parked))
        for poisoned in fold_page(self.projection, self.names, self.rows, self.parked, page, at_most=room):
            self.park(poisoned)

    def park(self, poisoned: Poisoned) -> None:
        """Set a stream aside from here on."""
        self.parked[poisoned.stream_id] = poisoned.position
        self.newly_parked.append(poisoned)

    def flush(self, conn: psycopg.Connection) -> None:
        """Write what was folded, and who was parked."""
        puts, deletes = self.rows.changes()
        self.store.write(conn, self.storage, puts, deletes)
        feeds.park(conn, self.name, self.newly_parked)

    def flushed(self, position: int) -> None:
        """The page is safe."""
        self.position = position
        self.stride = min(2 * self.stride, CATCH_UP_PAGE)
        self.rows.written()
        for stream_id, at, _, error in self.newly_parked[:SAID_AT_ONCE]:
            log.warning("feed %s parked stream %s at position %s: %s", self.name, stream_id, at, error)
        if len(self.newly_parked) > SAID_AT_ONCE:
            log.warning("feed %s parked %s streams in all", self.name, len(self.newly_parked))
        self.newly_parked.clear()

    def failed(self) -> None:
        """The page was not written."""
        self.rows.discard()
        for poisoned in self.newly_parked:
            self.parked.pop(poisoned.stream_id, None)
        self.newly_parked.clear()


@collector_paused()
def advance(conn: psycopg.Connection, reader: Reader, group: Sequence[Feed], upto: int) -> None:
    """Fold one page into feeds at the same checkpoint; rows and checkpoints commit together or not at all.

    Raises CheckpointMoved, psycopg.Error and what a store raises; the feeds are then as they were.
    """
    start = group[0].position
    end = min(upto, start + min(feed.stride for feed in group))
    try:
        with conn.transaction():
            # The checkpoints first: their row locks come before those of the tables, here as in `rebuild.drop`.
            feeds.move(conn, [(feed.name, start, end) for feed in group])
            page = reader.page(conn, start, end)
            for feed in group:
                feed.fold(page)
                feed.flush(conn)
    except BaseException:
        for feed in group:
            feed.failed()
        raise
    for feed in group:
        feed.flushed(end)


def advance_one(conn: psycopg.Connection, reader: Reader, feed: Feed, upto: int) -> None:
    """As `advance`; where rows cannot be written, smaller and smaller pages lead to the event: its stream is parked."""
    size = min(upto - feed.position, feed.stride)
    try:
        advance(conn, reader, [feed], upto)
    except POISON as error:
        if size > 1:
            feed.stride = size // 2
            return
        start, end = feed.position, feed.position + 1
        page = reader.page(conn, start, end)
        if not page:
            raise
        env = page[0][0]
        feed.park(Poisoned(env.stream_id, env.position, env.name, described(error)))
        with conn.transaction():
            feeds.move(conn, [(feed.name, start, end)])
            feed.flush(conn)
        feed.flushed(end)


class Registered(msgspec.Struct, frozen=True):
    """A projection with the store of its rows."""

    projection: Projection[Any]
    store: Store[Any]

    @property
    def storage(self) -> str:
        """The name of its first storage."""
        return f"{self.projection.name}_{self.projection.version}"


class Rest(msgspec.Struct):
    """How long a feed rests, and until when (monotonic time)."""

    seconds: float
    until: float


class Runner:
    """Runs feeds of the given projections: all of them that no other process leads."""

    def __init__(self, url: str, codec: Codec, projections: Sequence[Registered]) -> None:
        self._url, self._codec = url, codec
        self._registered = {(r.projection.name, r.projection.version): r for r in projections}
        self._feeds: dict[str, Feed] = {}
        self._readers: dict[frozenset[str], Reader] = {}
        self._rests: dict[str, Rest] = {}
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask the runner to end after the page at hand, and wake it, should it wait for events."""
        self._stop.set()
        with contextlib.suppress(psycopg.Error), self._connect("ludoteca projector stop") as conn:
            conn.execute(f"NOTIFY {feeds.WAKE}".encode())

    def run(self) -> None:
        """Run until stopped, or until a newer release leads; outlives lost connections."""
        while not self._stop.is_set():
            try:
                with self._connect("ludoteca projector") as conn, self._connect("ludoteca projector wake") as wake:
                    self._run(conn, wake)
            except feeds.CheckpointMoved as error:
                log.info("%s was dropped, or another process leads it now", error)
            except OutdatedRelease as error:
                log.error("%s", error)
                return
            except AWAY as error:
                log.warning("projector lost its database: %s", error)
                self._stop.wait(RESCAN_SECONDS)
            except Exception:
                log.exception("projector failed; it starts again")
                self._stop.wait(RESCAN_SECONDS)
            self._feeds.clear()

    def _connect(self, name: str) -> psycopg.Connection:
        return connect(self._url, name)

    def _run(self, conn: psycopg.Connection, wake: psycopg.Connection) -> None:
        conn.execute("SET synchronous_commit = off")  # what is lost is folded again
        conn.execute("SET enable_seqscan = off")  # statements are planned once, perhaps while the log is tiny
        wake.execute(f"LISTEN ludoteca_log; LISTEN {feeds.WAKE}")
        scanned = float("-inf")
        while not self._stop.is_set():
            if time.monotonic() - scanned > RESCAN_SECONDS:
                self._scan(conn)
                scanned = time.monotonic()
            # The head is asked, not taken from the notification: a wake-up is a hint, the log is the truth.
            busy = self._step(conn, _head(conn))
            if feeds.WAKE in _channels(wake, 0 if busy else RESCAN_SECONDS / 2):
                scanned = float("-inf")

    # -- which feeds ---------------------------------------------------------------------------------------------------

    def _scan(self, conn: psycopg.Connection) -> None:
        """Take the lead of feeds that nobody leads; let go of those paused or dropped; retry what was asked for."""
        require_current(conn)
        for key, registered in self._registered.items():
            feeds.register(conn, *key, registered.storage)
        known = {row.feed: row for row in feeds.feeds(conn) if (row.projection, row.version) in self._registered}
        for name in list(self._feeds):
            if name not in known or known[name].paused or known[name].building or self._has_lost_rows(conn, name):
                self._let_go(conn, name)
        for row in known.values():
            idle = row.feed not in self._feeds and not row.paused and not row.building
            if idle and self._is_awake(row.feed) and feeds.try_lead(conn, row.feed):
                self._lead(conn, row.feed)
        for feed in self._feeds.values():
            if feed.parked:
                self._retry(conn, feed)

    def _let_go(self, conn: psycopg.Connection, name: str) -> None:
        del self._feeds[name]
        feeds.stop_leading(conn, name)

    def _lead(self, conn: psycopg.Connection, name: str) -> None:
        row = feeds.feed(conn, name)
        if row is None or row.paused or row.building:
            feeds.stop_leading(conn, name)
            return
        registered = self._registered[row.projection, row.version]
        feed = Feed(registered.projection, registered.store, row, self._codec.names_of(registered.projection.folds))
        try:
            self._prepare(conn, feed)
        except ENDS_THE_LEAD:
            raise
        except Exception as error:
            self._rest(name, error)
            feeds.stop_leading(conn, name)
            return
        feed.attach(conn)
        self._feeds[name] = feed

    @staticmethod
    def _prepare(conn: psycopg.Connection, feed: Feed) -> None:
        """Make the storage. If there was one and it was lost, its rows are folded again from the start of the log."""
        if feed.position and not feed.store.exists(conn, feed.storage):
            log.warning("feed %s begins anew: %s is lost", feed.name, feed.storage)
            feeds.move(conn, [(feed.name, feed.position, 0)])  # first: what is created then is known to be empty
            feed.position = 0
        with conn.transaction():
            feed.store.prepare(conn, feed.storage)

    def _has_lost_rows(self, conn: psycopg.Connection, name: str) -> bool:
        """Whether a feed has to begin anew, its storage being gone: it may rest, or seem to be done."""
        feed = self._feeds[name]
        try:
            lost = not feed.store.exists(conn, feed.storage)
        except AWAY:
            raise
        except Exception as error:
            if self._is_awake(name):
                self._rest(name, error)
            return False
        if lost:
            self._rests.pop(name, None)
        return lost

    # -- feeds whose store is in trouble -------------------------------------------------------------------------------

    def _rest(self, name: str, error: Exception) -> None:
        first, longest = REST_SECONDS
        seconds = min(2 * self._rests[name].seconds, longest) if name in self._rests else first
        self._rests[name] = Rest(seconds, time.monotonic() + seconds)
        log.warning("feed %s rests %s s, its store is in trouble: %s", name, seconds, described(error))

    def _is_awake(self, name: str) -> bool:
        return name not in self._rests or self._rests[name].until <= time.monotonic()

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _step(self, conn: psycopg.Connection, head: int) -> bool:
        """Advance the feeds in front if there is something new, then a page of those behind. False: nothing to do."""
        awake = [feed for feed in self._feeds.values() if self._is_awake(feed.name)]
        if not awake:
            return False
        front = max(feed.position for feed in awake)
        moved = False
        if front < head:
            self._advance(conn, [feed for feed in awake if feed.position == front], head)
            moved = True
        behind = [feed for feed in awake if feed.position < front]
        if behind:
            lowest = min(feed.position for feed in behind)
            next_stop = min(feed.position for feed in awake if feed.position > lowest)
            self._advance(conn, [feed for feed in behind if feed.position == lowest], next_stop)
            moved = True
        return moved

    def _advance(self, conn: psycopg.Connection, group: list[Feed], upto: int) -> None:
        """Advance feeds together; where that fails, each alone, so that one in trouble does not hold up the others."""
        try:
            if len(group) > 1:
                advance(conn, self._reader(group), group, upto)
            else:
                advance_one(conn, self._reader(group), group[0], upto)
        except ENDS_THE_LEAD:
            raise
        except Exception as error:
            if len(group) > 1:
                for feed in group:
                    self._advance(conn, [feed], upto)
                return
            if isinstance(error, StorageLost):
                self._let_go(conn, group[0].name)  # whoever takes the lead next begins anew
            else:
                self._rest(group[0].name, error)
        else:
            for feed in group:
                self._rests.pop(feed.name, None)

    def _reader(self, group: Iterable[Feed]) -> Reader:
        names = frozenset[str]().union(*(feed.names for feed in group))
        if names not in self._readers:
            self._readers[names] = Reader(self._codec, list(names))
        return self._readers[names]

    # -- quarantine ----------------------------------------------------------------------------------------------------

    def _retry(self, conn: psycopg.Connection, feed: Feed) -> None:
        """Apply what an operator asked to try again, up to the feed's checkpoint."""
        for parked in [p for p in feeds.parked(conn, [feed.name]) if p.retry]:
            try:
                self._redrive(conn, feed, parked)
            except ENDS_THE_LEAD:
                raise
            except Exception as error:
                log.warning("feed %s cannot retry, its store is in trouble: %s", feed.name, described(error))
                feed.failed()
                feed.attach(conn)

    def _redrive(self, conn: psycopg.Connection, feed: Feed, parked: feeds.Parked) -> None:
        """Apply what was held back of a stream: in one go, or else event by event up to the one that fails again."""
        page = self._reader([feed]).streams(conn, [parked.stream_id], parked.position - 1, feed.position)
        feed.parked.pop(parked.stream_id, None)
        feed.rows.discard()
        with conn.transaction():
            feeds.move(conn, [(feed.name, feed.position, feed.position)])
            if self._written(conn, feed, page) is not None:
                for env, event in page:
                    error = self._written(conn, feed, [(env, event)])
                    if error is not None:
                        feed.park(Poisoned(env.stream_id, env.position, env.name, described(error)))
                        feed.flush(conn)
                    if parked.stream_id in feed.parked:
                        break
            if parked.stream_id not in feed.parked:
                feeds.release(conn, [parked.id])
        feed.flushed(feed.position)

    def _written(self, conn: psycopg.Connection, feed: Feed, page: Page) -> Exception | None:
        """Fold and write some events; returns why they could not be written."""
        try:
            with conn.transaction():
                feed.fold(page)
                feed.flush(conn)
        except POISON as error:
            feed.failed()
            return error
        feed.flushed(feed.position)
        return None


def _head(conn: psycopg.Connection) -> int:
    row = conn.execute("SELECT coalesce(max(position), 0) FROM log.events").fetchone()
    return int(row[0]) if row else 0


def _channels(conn: psycopg.Connection, timeout: float) -> set[str]:
    """The channels of the notifications that came within some seconds."""
    with contextlib.closing(conn.notifies(timeout=timeout, stop_after=1)) as notes:
        return {note.channel for note in notes}
