"""The engine: keeps projections' rows in step with the log.

A `Runner` is a thread that leads a set of feeds. Feeds at the same checkpoint go together: one read of the log, one
transaction for all their rows and checkpoints. A feed that lags is caught up in pages until it joins the others.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from eventstore.codec import Codec
from eventstore.log import Envelope
from projections import feeds
from projections.projection import Projection, Rows
from projections.reading import Page, Reader, Unreadable
from projections.store import Store

log = logging.getLogger(__name__)

LIVE_PAGE, CATCH_UP_PAGE = 1_000, 20_000
"""Positions per step: small when in step, so that rows appear at once; large when far behind."""

RESCAN_SECONDS = 1.0
"""How often a runner looks for feeds whose leader died; changes of ours are notified."""

CACHED_ROWS = 20_000
"""Rows that a feed keeps in memory between pages: as its only writer it need not read them again."""


class Feed:
    """A projection being folded into one storage, up to a checkpoint."""

    def __init__(self, projection: Projection[Any], store: Store[Any], row: feeds.FeedRow) -> None:
        self.projection, self.store = projection, store
        self.name, self.storage = row.feed, row.storage
        self.position = row.position
        self.parked: dict[UUID, int] = {}
        self.newly_parked: list[tuple[UUID, int, str, str]] = []
        self.careful_upto = 0  # up to here one event at a time: a page could not be written
        self._conn: psycopg.Connection | None = None
        self.rows: Rows[Any] = Rows(projection.row, self._fetch, CACHED_ROWS)

    def attach(self, conn: psycopg.Connection) -> None:
        """Start from what the database has."""
        self._conn = conn
        self.rows.discard()
        self.parked = {p.stream_id: p.position for p in feeds.parked(conn, [self.name])}

    def _fetch(self, keys: Sequence[object]) -> Iterable[msgspec.Struct]:
        assert self._conn is not None
        return self.store.fetch(self._conn, self.storage, keys)

    def fold(self, page: Page) -> None:
        """Fold a page in memory; parks the streams of events that cannot be applied and starts the page again."""
        while True:
            poison = fold_page(self.projection, self.rows, self.parked, page)
            if poison is None:
                return
            env, error = poison
            log.warning("feed %s parks stream %s at position %s: %s", self.name, env.stream_id, env.position, error)
            self.park(env.stream_id, env.position, env.name, error)
            self.rows.discard()

    def park(self, stream_id: UUID, position: int, name: str, error: str) -> None:
        """Set a stream aside from here on."""
        self.parked[stream_id] = position
        self.newly_parked.append((stream_id, position, name, error))

    def flush(self, conn: psycopg.Connection) -> None:
        """Write what was folded, and who was parked."""
        puts, deletes = self.rows.changes()
        self.store.write(conn, self.storage, puts, deletes)
        for parked in self.newly_parked:
            feeds.park(conn, self.name, *parked)

    def flushed(self, position: int) -> None:
        """The page is safe."""
        self.position = position
        self.rows.written()
        self.newly_parked.clear()

    def failed(self) -> None:
        """The page was not written."""
        self.rows.discard()
        for stream_id, *_ in self.newly_parked:
            self.parked.pop(stream_id, None)
        self.newly_parked.clear()


def fold_page(
    projection: Projection[Any], rows: Rows[Any], parked: Mapping[UUID, int], page: Page
) -> tuple[Envelope, str] | None:
    """Fold a page into rows, past the streams that are parked; returns the event that cannot be applied, and why."""
    folds, mine = projection.folds, []
    for env, event in page:
        if parked and env.position >= parked.get(env.stream_id, env.position + 1):
            continue
        fold = folds.get(type(event))
        if fold is not None:
            mine.append((fold, event, env))
        elif type(event) is Unreadable:
            return env, f"{type(event.error).__name__}: {event.error}"
    try:
        rows.prefetch([fold[1](event, env) for fold, event, env in mine])
        for fold, event, env in mine:
            fold[0](projection, rows, event, env)
    except psycopg.Error:
        raise
    except Exception as error:  # whatever a fold meets, only its stream waits
        return env, f"{type(error).__name__}: {error}"
    return None


class Registered(msgspec.Struct, frozen=True):
    """A projection with the store of its rows."""

    projection: Projection[Any]
    store: Store[Any]

    @property
    def storage(self) -> str:
        """The name of its first storage."""
        return f"{self.projection.name}_{self.projection.version}"


class Runner:
    """Runs feeds of the given projections: all of them that no other process leads."""

    def __init__(self, url: str, codec: Codec, projections: Sequence[Registered], options: str = "") -> None:
        self._url, self._codec, self._options = url, codec, options
        self._registered = {(r.projection.name, r.projection.version): r for r in projections}
        self._feeds: dict[str, Feed] = {}
        self._readers: dict[frozenset[str], Reader] = {}
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ask the runner to end after the page at hand."""
        self._stop.set()

    def run(self) -> None:
        """Run until stopped; outlives lost connections."""
        while not self._stop.is_set():
            try:
                with self._connect("ludoteca projector") as conn, self._connect("ludoteca projector wake") as wake:
                    self._run(conn, wake)
            except psycopg.OperationalError as error:
                log.warning("projector lost its database: %s", error)
            except feeds.CheckpointMoved as error:
                log.warning("another process leads %s now", error)
            except Exception:
                log.exception("projector failed; it starts again")
            self._feeds.clear()
            self._stop.wait(RESCAN_SECONDS)

    def _connect(self, name: str) -> psycopg.Connection:
        return psycopg.connect(self._url, autocommit=True, application_name=name, options=self._options)

    def _run(self, conn: psycopg.Connection, wake: psycopg.Connection) -> None:
        conn.execute("SET synchronous_commit = off")  # what is lost is folded again
        wake.execute(f"LISTEN ludoteca_log; LISTEN {feeds.WAKE}")
        scanned, head = 0.0, 0
        while not self._stop.is_set():
            if time.monotonic() - scanned > RESCAN_SECONDS:
                self._scan(conn)
                scanned = time.monotonic()
                head = max(head, _head(conn))
            if self._step(conn, head):
                head = max([head, *(int(n.payload) for n in _notes(wake, 0) if n.channel != feeds.WAKE)])
                continue
            for note in _notes(wake, RESCAN_SECONDS / 2):
                if note.channel == feeds.WAKE:
                    scanned = 0.0
                else:
                    head = max(head, int(note.payload))

    # -- which feeds ---------------------------------------------------------------------------------------------------

    def _scan(self, conn: psycopg.Connection) -> None:
        """Take the lead of feeds that nobody leads; let go of those paused or dropped; retry what was asked for."""
        for key, registered in self._registered.items():
            feeds.register(conn, *key, registered.storage)
        known = {row.feed: row for row in feeds.feeds(conn) if (row.projection, row.version) in self._registered}
        for name in list(self._feeds):
            if name not in known or known[name].paused or known[name].building:
                del self._feeds[name]
                feeds.stop_leading(conn, name)
        for row in known.values():
            if row.feed not in self._feeds and not row.paused and not row.building and feeds.try_lead(conn, row.feed):
                self._lead(conn, row.feed)
        for feed in self._feeds.values():
            if feed.parked:
                self._retry(conn, feed)

    def _lead(self, conn: psycopg.Connection, name: str) -> None:
        row = feeds.feed(conn, name)
        if row is None or row.paused or row.building:
            feeds.stop_leading(conn, name)
            return
        registered = self._registered[row.projection, row.version]
        feed = Feed(registered.projection, registered.store, row)
        with conn.transaction():
            feed.store.prepare(conn, row.storage)
        feed.attach(conn)
        self._feeds[name] = feed

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _step(self, conn: psycopg.Connection, head: int) -> bool:
        """Advance the feeds in front if there is something new, then a page of those behind. False: nothing to do."""
        if not self._feeds:
            return False
        front = max(feed.position for feed in self._feeds.values())
        moved = False
        if front < head:
            self._advance(conn, [f for f in self._feeds.values() if f.position == front], head)
            moved = True
        behind = [f for f in self._feeds.values() if f.position < front]
        if behind:
            lowest = min(f.position for f in behind)
            group = [f for f in behind if f.position == lowest]
            next_stop = min((f.position for f in self._feeds.values() if f.position > lowest), default=head)
            self._advance(conn, group, next_stop)
            moved = True
        return moved

    def _advance(self, conn: psycopg.Connection, group: list[Feed], upto: int) -> None:
        """Fold one page into feeds at the same checkpoint, and commit rows and checkpoints together."""
        start = group[0].position
        size = LIVE_PAGE if upto - start <= LIVE_PAGE else CATCH_UP_PAGE
        end = min(upto, start + size)
        if any(start < feed.careful_upto for feed in group):
            end = start + 1
        page = self._reader(group).page(conn, start, end)
        for feed in group:
            feed.fold(page)
        try:
            with conn.transaction():
                feeds.move(conn, [(feed.name, start, end) for feed in group])
                for feed in group:
                    feed.flush(conn)
        except psycopg.OperationalError:
            raise
        except feeds.CheckpointMoved:
            raise
        except Exception as error:
            self._unwritable(conn, group, page, end, error)
            return
        for feed in group:
            feed.flushed(end)

    def _unwritable(self, conn: psycopg.Connection, group: list[Feed], page: Page, end: int, error: Exception) -> None:
        """A page that folds but cannot be written: find the feed, then the event, and park its stream."""
        for feed in group:
            feed.failed()
        if not _is_poison(error):
            raise error
        if len(group) > 1:
            for feed in group:
                self._advance(conn, [feed], end)
            return
        feed = group[0]
        if end - feed.position > 1:
            feed.careful_upto = end
            return
        env = page[0][0]
        log.warning("feed %s parks stream %s: its rows cannot be written: %s", feed.name, env.stream_id, error)
        feed.park(env.stream_id, env.position, env.name, f"{type(error).__name__}: {error}")
        with conn.transaction():
            feeds.move(conn, [(feed.name, feed.position, end)])
            feed.flush(conn)
        feed.flushed(end)

    def _reader(self, group: Iterable[Feed]) -> Reader:
        classes = {cls for feed in group for cls in feed.projection.folds}
        names = frozenset(self._codec.names_of(classes))
        if names not in self._readers:
            self._readers[names] = Reader(self._codec, list(names))
        return self._readers[names]

    # -- quarantine ----------------------------------------------------------------------------------------------------

    def _retry(self, conn: psycopg.Connection, feed: Feed) -> None:
        """Apply what an operator asked to try again, up to the feed's checkpoint."""
        for parked in [p for p in feeds.parked(conn, [feed.name]) if p.retry]:
            reader = self._reader([feed])
            page = reader.streams(conn, [parked.stream_id], parked.position - 1, feed.position)
            del feed.parked[parked.stream_id]
            feed.rows.discard()
            feed.fold(page)
            still = feed.parked.get(parked.stream_id)
            with conn.transaction():
                feeds.move(conn, [(feed.name, feed.position, feed.position)])
                if still is None:
                    feeds.release(conn, [parked.id])
                feed.flush(conn)
            feed.flushed(feed.position)


def _is_poison(error: Exception) -> bool:
    """Whether the rows themselves are at fault, so that trying again would end the same."""
    return isinstance(error, psycopg.DataError | psycopg.IntegrityError | UnicodeEncodeError | msgspec.MsgspecError)


def _head(conn: psycopg.Connection) -> int:
    row = conn.execute("SELECT coalesce(max(position), 0) FROM log.events").fetchone()
    return int(row[0]) if row else 0


def _notes(conn: psycopg.Connection, timeout: float) -> list[psycopg.Notify]:
    with contextlib.closing(conn.notifies(timeout=timeout, stop_after=1)) as notes:
        return list(notes)
