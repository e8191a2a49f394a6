"""Applies the skipped events of quarantined streams when an operator asks for it."""

import logging
import threading

import psycopg

from eventstore.amendments import load
from eventstore.codec import Codec
from eventstore.consumers import checkpoints, quarantine
from eventstore.consumers.leadership import Challenger
from eventstore.consumers.reader import Page, Reader
from eventstore.database.postgres import TOO_MUCH
from kit.wording import described
from projections.engine import rebuild
from projections.engine.advancing import POISON, Registered, Subscriber, advance_one
from projections.engine.folding import Poisoned, fold_page
from projections.engine.lanes import Models, ends_the_lead, subscriber_of

logger = logging.getLogger(__name__)


LEAD_POLL_SECONDS = 1.0
"""How often to check whether other processes have released their subscriptions."""


class Stopped(Exception):
    """The runner has to end: the retry is dropped, and begins again later."""


class Retrier:
    """Retries quarantined streams as requested, while their subscriptions go on."""

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
        """Retry all requested streams; those of subscriptions that others lead, once these release
        them."""
        while of_others := self._look():
            self._challenger.look(self._conn, of_others)
            if self._stop.wait(LEAD_POLL_SECONDS):
                return

    def _look(self) -> list[str]:
        """Retry what can be retried now. Returns the subscriptions that others lead."""
        asked, of_others = quarantine.retry_requested(self._conn), []
        for row in checkpoints.subscriptions(self._conn):
            due = row.name in asked and (row.projection, row.version) in self._models
            if (
                due
                and not row.paused
                and not row.building
                and not self._stop.is_set()
                and not self._retry(row)
            ):
                of_others.append(row.name)
        return of_others

    def _retry(self, row: checkpoints.Subscription) -> bool:
        """Retry a subscription's streams. Returns False when another process leads it."""
        registered = self._models[row.projection, row.version]
        try:
            if registered.projection.mixes_streams:
                self._fold_anew(registered, row)
            elif not checkpoints.try_lead(self._conn, row.name):
                return False
            else:
                try:
                    self._apply_late(row.name)
                finally:
                    if not self._conn.closed:
                        checkpoints.stop_leading(self._conn, row.name)
                        checkpoints.wake(self._conn)
        except Stopped:
            pass
        except Exception as error:
            if ends_the_lead(error):
                raise
            logger.warning("feed %s cannot retry: %s", row.name, described(error))
        return True

    # -- rows that one stream feeds ----------------------------------------------------------------

    def _apply_late(self, name: str) -> None:
        """Lead the subscription, and apply the skipped events to its rows."""
        row = checkpoints.subscription(self._conn, name)
        if row is None:
            return
        subscriber = subscriber_of(self._codec, self._models, row)
        subscriber.attach(self._conn)
        for quarantined in quarantine.held(self._conn, [name]):
            if quarantined.retry and not self._stop.is_set():
                self._redrive(subscriber, quarantined)

    def _redrive(self, subscriber: Subscriber, quarantined: quarantine.Quarantined) -> None:
        """Apply a stream's events from the failed one on, page by page, up to the subscription's
        checkpoint; between pages the subscription advances as usual. An event that cannot be
        applied quarantines the stream again from there.
        """
        reader, stream = self._reader(subscriber), quarantined.stream_id
        after = quarantined.position - 1
        while page := reader.stream(self._conn, stream, after, subscriber.position):
            while (error := self._apply(subscriber, quarantined, page)) is not None:
                if len(page) == 1:
                    self._quarantine_again(subscriber, page, error)
                    return
                page = page[: len(page) // 2]
            after = page[-1][0].position
            if subscriber.quarantined[stream] <= after or self._stop.is_set():
                return
            if subscriber.position < (head := checkpoints.head(self._conn)):
                advance_one(self._conn, reader, subscriber, head)
        with self._conn.transaction():
            checkpoints.move(
                self._conn, [(subscriber.name, subscriber.position, subscriber.position)]
            )
            quarantine.release(self._conn, [quarantined.id])
        del subscriber.quarantined[stream]

    def _apply(
        self, subscriber: Subscriber, quarantined: quarantine.Quarantined, page: Page
    ) -> Exception | None:
        """Fold and write events of the stream, and quarantine it from behind them on. Returns why
        they cannot be written."""
        held, behind = subscriber.quarantined.pop(quarantined.stream_id), page[-1][0].position + 1
        try:
            with self._conn.transaction():
                checkpoints.move(
                    self._conn, [(subscriber.name, subscriber.position, subscriber.position)]
                )
                subscriber.fold(page)
                quarantine.hold_from(self._conn, quarantined.id, behind)
                subscriber.flush(self._conn)
        except BaseException as error:
            subscriber.failed()
            subscriber.quarantined[quarantined.stream_id] = held
            if isinstance(error, POISON) or (isinstance(error, TOO_MUCH) and len(page) > 1):
                return error
            raise
        subscriber.flushed(subscriber.position)
        subscriber.quarantined.setdefault(quarantined.stream_id, behind)
        return None

    def _reader(self, subscriber: Subscriber) -> Reader:
        """Reads events as the subscription's rows have them."""
        amendments = load(self._conn).as_of(subscriber.amended)
        return Reader(self._codec, list(subscriber.names), amendments=amendments)

    def _quarantine_again(self, subscriber: Subscriber, page: Page, error: Exception) -> None:
        env = page[0][0]
        subscriber.quarantine(Poisoned(env.stream_id, env.position, env.name, described(error)))
        with self._conn.transaction():
            checkpoints.move(
                self._conn, [(subscriber.name, subscriber.position, subscriber.position)]
            )
            subscriber.flush(self._conn)
        subscriber.flushed(subscriber.position)

    # -- rows in which several streams meet --------------------------------------------------------

    def _fold_anew(self, registered: Registered, row: checkpoints.Subscription) -> None:
        """Rebuild the read model with the skipped events in their order, since later events are
        already in its rows. The live rows are updated until queries are switched over.
        """
        subscriber = subscriber_of(self._codec, self._models, row)
        subscriber.attach(self._conn)
        asked = [p for p in quarantine.held(self._conn, [row.name]) if p.retry]
        again = [found for p in asked if (found := self._still_poisoned(subscriber, p)) is not None]
        quarantine.add(self._conn, row.name, again)
        mended = {p.stream_id for p in asked} - {found.stream_id for found in again}
        if not mended:
            return
        if not row.active:  # kept for a rollback: it stays as it is
            quarantine.withdraw_retry(self._conn, row.name)
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
            return  # tried again at the next look
        except POISON as error:  # one of its rows cannot be written
            held = [p for p in asked if p.stream_id in mended]
            quarantine.add(
                self._conn,
                row.name,
                [(p.stream_id, p.position, p.name, described(error)) for p in held],
            )
            return
        quarantine.withdraw_retry(self._conn, row.name)
        rebuild.drop(self._conn, registered.store, row.name)  # its rows are known to be wrong

    def _still_poisoned(
        self, subscriber: Subscriber, quarantined: quarantine.Quarantined
    ) -> Poisoned | None:
        """The event that quarantined a stream, if it cannot be folded still. Nothing is written."""
        reader = self._reader(subscriber)
        page = reader.stream(
            self._conn, quarantined.stream_id, quarantined.position - 1, quarantined.position
        )
        subscriber.rows.discard()
        others = {
            stream: at
            for stream, at in subscriber.quarantined.items()
            if stream != quarantined.stream_id
        }
        found = fold_page(subscriber.projection, subscriber.names, subscriber.rows, others, page)
        return found[0] if found else None

    def _unless_stopped(self, _done: int, _all: int) -> None:
        if self._stop.is_set():
            raise Stopped
