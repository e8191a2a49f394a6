"""Applies again what was held back of streams in quarantine, when an operator asks for it."""

import logging
import threading

import psycopg

from eventstore.codec import Codec
from eventstore.consumers import checkpoints
from eventstore.consumers.leadership import Challenger
from eventstore.consumers.reader import Page, Reader
from eventstore.database.postgres import TOO_MUCH
from kit.wording import described
from projections.engine import rebuild
from projections.engine.advancing import POISON, Feed, Registered, advance_one
from projections.engine.folding import Poisoned, fold_page
from projections.engine.lanes import Models, ends_the_lead, feed_of

log = logging.getLogger(__name__)


WAIT_SECONDS = 1.0
"""How long to wait for others to let go of feeds of theirs."""


class Stopped(Exception):
    """The runner is to end: what was under way is dropped, and begins again another time."""


class Retrier:
    """Retries what was asked for. Meanwhile the feed goes on."""

    def __init__(
        self, conn: psycopg.Connection, codec: Codec, models: Models, stop: threading.Event
    ) -> None:
        conn.execute("SET synchronous_commit = off")
        conn.execute("SET enable_seqscan = off")
        self._conn = conn
        self._codec = codec
        self._models = models
        self._stop = stop
        self._challenger = Challenger()

    def run(self) -> None:
        """Retry what was asked for, also of feeds that others lead, when these let go."""
        while of_others := self._look():
            self._challenger.look(self._conn, of_others)
            if self._stop.wait(WAIT_SECONDS):
                return

    def _look(self) -> list[str]:
        """Retry what can be; returns the feeds that others lead."""
        asked, of_others = checkpoints.asked(self._conn), []
        for row in checkpoints.feeds(self._conn):
            due = row.feed in asked and (row.projection, row.version) in self._models
            if (
                due
                and not row.paused
                and not row.building
                and not self._stop.is_set()
                and not self._retry(row)
            ):
                of_others.append(row.feed)
        return of_others

    def _retry(self, row: checkpoints.FeedRow) -> bool:
        """False when another leads the feed."""
        registered = self._models[row.projection, row.version]
        try:
            if registered.projection.mixes_streams:
                self._fold_anew(registered, row)
            elif not checkpoints.try_lead(self._conn, row.feed):
                return False
            else:
                try:
                    self._apply_late(row.feed)
                finally:
                    if not self._conn.closed:
                        checkpoints.stop_leading(self._conn, row.feed)
                        checkpoints.wake(self._conn)
        except Stopped:
            pass
        except Exception as error:
            if ends_the_lead(error):
                raise
            log.warning("feed %s cannot retry: %s", row.feed, described(error))
        return True

    # -- rows that one stream feeds ----------------------------------------------------------------

    def _apply_late(self, name: str) -> None:
        """Lead the feed, and apply to its rows what was held back."""
        row = checkpoints.feed(self._conn, name)
        if row is None:
            return
        feed = feed_of(self._codec, self._models, row)
        feed.attach(self._conn)
        for parked in checkpoints.parked(self._conn, [name]):
            if parked.retry and not self._stop.is_set():
                self._redrive(feed, parked)

    def _redrive(self, feed: Feed, parked: checkpoints.Parked) -> None:
        """Apply a stream's events from where it was parked, page by page, up to the feed's
        checkpoint; between pages the feed takes a step as ever. An event that cannot be applied
        parks the stream again, there.
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
            if feed.position < (head := checkpoints.head(self._conn)):
                advance_one(self._conn, reader, feed, head)
        with self._conn.transaction():
            checkpoints.move(self._conn, [(feed.name, feed.position, feed.position)])
            checkpoints.release(self._conn, [parked.id])
        del feed.parked[stream]

    def _apply(self, feed: Feed, parked: checkpoints.Parked, page: Page) -> Exception | None:
        """Fold and write events of the stream, which is parked behind them then; returns why they
        cannot be written."""
        held, behind = feed.parked.pop(parked.stream_id), page[-1][0].position + 1
        try:
            with self._conn.transaction():
                checkpoints.move(self._conn, [(feed.name, feed.position, feed.position)])
                feed.fold(page)
                checkpoints.hold_from(self._conn, parked.id, behind)
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
            checkpoints.move(self._conn, [(feed.name, feed.position, feed.position)])
            feed.flush(self._conn)
        feed.flushed(feed.position)

    # -- rows in which several streams meet --------------------------------------------------------

    def _fold_anew(self, registered: Registered, row: checkpoints.FeedRow) -> None:
        """What was held back came before events that are in the rows by now: fold them all again,
        in order, beside the live ones, which go on until queries are switched over.
        """
        feed = feed_of(self._codec, self._models, row)
        feed.attach(self._conn)
        asked = [p for p in checkpoints.parked(self._conn, [row.feed]) if p.retry]
        again = [found for p in asked if (found := self._still_poisoned(feed, p)) is not None]
        checkpoints.park(self._conn, row.feed, again)
        mended = {p.stream_id for p in asked} - {found.stream_id for found in again}
        if not mended:
            return
        if not row.active:  # what a rebuild left for going back to: it stays as it is
            checkpoints.refuse_retry(self._conn, row.feed)
            return
        try:
            rebuild.rebuild(
                self._conn,
                self._codec,
                registered,
                self._unless_stopped,
                replace=True,
                retried=mended,
            )
        except rebuild.Busy:
            return  # the next look tries again
        except POISON as error:  # some row of it cannot be written
            held = [p for p in asked if p.stream_id in mended]
            checkpoints.park(
                self._conn,
                row.feed,
                [(p.stream_id, p.position, p.name, described(error)) for p in held],
            )
            return
        checkpoints.refuse_retry(self._conn, row.feed)
        rebuild.drop(self._conn, registered.store, row.feed)  # its rows are known to be wrong

    def _still_poisoned(self, feed: Feed, parked: checkpoints.Parked) -> Poisoned | None:
        """The event that parked a stream, if it cannot be folded still. Nothing is written."""
        reader = Reader(self._codec, list(feed.names))
        page = reader.stream(self._conn, parked.stream_id, parked.position - 1, parked.position)
        feed.rows.discard()
        others = {stream: at for stream, at in feed.parked.items() if stream != parked.stream_id}
        found = fold_page(feed.projection, feed.names, feed.rows, others, page)
        return found[0] if found else None

    def _unless_stopped(self, _done: int, _all: int) -> None:
        if self._stop.is_set():
            raise Stopped
