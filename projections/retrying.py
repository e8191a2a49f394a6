"""Applies again what was held back of streams in quarantine, when an operator asks for it."""

import logging
import threading

import psycopg

from eventstore.codec import Codec
from eventstore.postgres import TOO_MUCH
from projections import feeds
from projections.advancing import POISON, Feed, advance_one
from projections.folding import Poisoned, described
from projections.lanes import Models, ends_the_lead, feed_of
from projections.reading import Page, Reader

log = logging.getLogger(__name__)


class Retrier:
    """Leads a feed for as long as it takes to apply what was held back; meanwhile the feed goes on."""

    def __init__(self, conn: psycopg.Connection, codec: Codec, models: Models, stop: threading.Event) -> None:
        conn.execute("SET synchronous_commit = off")
        conn.execute("SET enable_seqscan = off")
        self._conn, self._codec, self._models, self._stop = conn, codec, models, stop

    def run(self) -> None:
        """Retry what was asked for of feeds that nobody else leads."""
        asked = feeds.asked(self._conn)
        for row in feeds.feeds(self._conn):
            due = row.feed in asked and (row.projection, row.version) in self._models
            if due and not row.paused and not row.building and not self._stop.is_set():
                self._retry(row.feed)

    def _retry(self, name: str) -> None:
        if not feeds.try_lead(self._conn, name):
            return
        try:
            row = feeds.feed(self._conn, name)
            if row is None:
                return
            feed = feed_of(self._codec, self._models, row)
            feed.attach(self._conn)
            for parked in feeds.parked(self._conn, [name]):
                if parked.retry and not self._stop.is_set():
                    self._redrive(feed, parked)
        except Exception as error:
            if ends_the_lead(error):
                raise
            log.warning("feed %s cannot retry, its store is in trouble: %s", name, described(error))
        finally:
            if not self._conn.closed:
                feeds.stop_leading(self._conn, name)
                feeds.wake(self._conn)

    def _redrive(self, feed: Feed, parked: feeds.Parked) -> None:
        """Apply a stream's events from where it was parked, page by page, up to the feed's checkpoint; between pages
        the feed takes a step as ever. An event that cannot be applied parks the stream again, there.
        """
        reader, stream = Reader(self._codec, list(feed.names)), parked.stream_id
        after = parked.position - 1
        while page := reader.stream(self._conn, stream, after, feed.position):
            while (error := self._apply(feed, parked, page)) is not None:
                if len(page) == 1:
                    self._park_again(feed, page, error)
                    return
                page = page[: len(page) // 2]
            after = page[-1][0].position
            if feed.parked[stream] <= after or self._stop.is_set():
                return
            if feed.position < (head := self._head()):
                advance_one(self._conn, reader, feed, head)
        with self._conn.transaction():
            feeds.move(self._conn, [(feed.name, feed.position, feed.position)])
            feeds.release(self._conn, [parked.id])
        del feed.parked[stream]

    def _apply(self, feed: Feed, parked: feeds.Parked, page: Page) -> Exception | None:
        """Fold and write events of the stream, which is parked behind them then; returns why they cannot be written."""
        held, behind = feed.parked.pop(parked.stream_id), page[-1][0].position + 1
        try:
            with self._conn.transaction():
                feeds.move(self._conn, [(feed.name, feed.position, feed.position)])
                feed.fold(page)
                feeds.hold_from(self._conn, parked.id, behind)
                feed.flush(self._conn)
        except BaseException as error:
            feed.failed()
            feed.parked[parked.stream_id] = held
            if isinstance(error, POISON) or (isinstance(error, TOO_MUCH) and len(page) > 1):
                return error
            raise
        feed.flushed(feed.position)
        feed.parked.setdefault(parked.stream_id, behind)
        return None

    def _park_again(self, feed: Feed, page: Page, error: Exception) -> None:
        env = page[0][0]
        feed.park(Poisoned(env.stream_id, env.position, env.name, described(error)))
        with self._conn.transaction():
            feeds.move(self._conn, [(feed.name, feed.position, feed.position)])
            feed.flush(self._conn)
        feed.flushed(feed.position)

    def _head(self) -> int:
        row = self._conn.execute("SELECT coalesce(max(position), 0) FROM log.events").fetchone()
        return int(row[0]) if row else 0
