"""The engine: keeps projections' rows in step with the log.

A `Runner` leads subscriptions. Its own thread leads those that are up to date; while others lag
behind, a second thread leads those; a third retries quarantined streams when an operator asks for
it. There are never more than these three.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import psycopg

from eventstore.codec import Codec
from eventstore.consumers import checkpoints, quarantine
from eventstore.consumers.leadership import connect_leader
from eventstore.database.postgres import AWAY
from eventstore.database.release import OutdatedRelease
from eventstore.head import APPENDED, is_known
from projections.engine import lanes, schema
from projections.engine.advancing import Registered, Subscriber, advance, advance_one
from projections.engine.lanes import Lane
from projections.engine.retrying import Retrier
from projections.projection import Projection

__all__ = ["Registered", "Runner", "Subscriber", "advance", "advance_one"]

logger = logging.getLogger(__name__)

RESTART_SECONDS = 0.1
"""How soon a thread begins anew after another process has moved its subscription's checkpoint."""

PAGE_SECONDS = 0.01
"""How soon a page follows another while the log keeps growing: it costs more than its events."""

RESCAN_SECONDS = 1.0
"""How often a runner looks for subscriptions whose leader died. Other changes are notified."""


class Runner:
    """Runs subscriptions of the given projections: all of them that no other process leads."""

    def __init__(
        self, url: str, codec: Codec, projections: Sequence[Registered], *, activate: bool = True
    ) -> None:
        """With `activate`, queries may read storages as soon as they have caught up."""
        self._url = url
        self._codec = codec
        self._activates = activate
        self._models = {(r.projection.name, r.projection.version): r for r in projections}
        self._stop = threading.Event()
        self._behind = _Helper("behind", partial(self._survives, self._run_behind))
        self._retrying = _Helper("retry", partial(self._survives, self._run_retries))

    def stop(self) -> None:
        """Ask the runner to end after the page at hand, and wake it, should it wait for events."""
        self._stop.set()
        with contextlib.suppress(psycopg.Error), self._connect("ludoteca projector stop") as conn:
            conn.execute(f"NOTIFY {checkpoints.WAKE}".encode())

    def run(self) -> None:
        """Run until stopped, or until a newer release leads; outlives lost connections."""
        try:
            while not self._stop.is_set() and self._survives(self._run_front):
                pass
        finally:
            self._stop.set()
            self._behind.join()
            self._retrying.join()

    def _survives(self, work: Callable[[], None]) -> bool:
        """Run a thread's work. Returns False when there is no point in running it again."""
        try:
            work()
        except checkpoints.CheckpointMoved as error:
            logger.info("%s was dropped, or another process leads it now", error)
            self._stop.wait(RESTART_SECONDS)
        except OutdatedRelease as error:
            logger.error("%s", error)
            return False
        except AWAY as error:
            logger.warning("projector lost its database: %s", error)
            self._stop.wait(RESCAN_SECONDS)
        except Exception:
            logger.exception("projector failed; it starts again")
            self._stop.wait(RESCAN_SECONDS)
        return True

    def _connect(self, name: str) -> psycopg.Connection:
        return connect_leader(self._url, name)

    # -- in front ----------------------------------------------------------------------------------

    def _run_front(self) -> None:
        with (
            self._connect("ludoteca projector") as conn,
            self._connect("ludoteca projector wake") as wake,
        ):
            schema.see_to(self._url, conn)  # only here: a lost schema ends the lead
            wake.execute(f"LISTEN {APPENDED}; LISTEN {checkpoints.WAKE}")
            lane = Lane(conn, self._codec, self._models, self._stop, activates=self._activates)
            scanned = float("-inf")
            while not self._stop.is_set():
                # The head is read from the log: a notification is only a hint.
                head = lane.head()
                if time.monotonic() - scanned > RESCAN_SECONDS:
                    self._scan(conn, lane, head)
                    # detects a lost connection, which waiting for notifications does not
                    wake.execute("SELECT 1")
                    scanned = time.monotonic()
                if self._leave_behind(lane, head):
                    self._behind.start()
                began = time.monotonic()
                moved, lags = lane.step(head), lane.lags(head)
                if moved and not lags:
                    self._stop.wait(began + PAGE_SECONDS - time.monotonic())
                if _is_woken(wake, head, 0 if lags else RESCAN_SECONDS / 2):
                    scanned = float("-inf")

    def _scan(self, conn: psycopg.Connection, lane: Lane, head: int) -> None:
        """Lead what nobody leads, except subscriptions that lag behind others or are to be retried,
        which other threads lead."""
        there = checkpoints.registered(conn)
        for key, registered in self._models.items():
            if key not in there:
                checkpoints.register(conn, *key, registered.storage)
        asked, retried = quarantine.retry_requested(conn), set[str]()
        left: list[str] = []

        def is_applied_late(name: str, projection: Projection[Any]) -> bool:
            """Whether the retrying thread leads the subscription."""
            if name in asked:
                retried.add(name)
            return name in asked and not projection.mixes_streams

        def wanted(row: checkpoints.Subscription) -> bool:
            if is_applied_late(row.name, self._models[row.projection, row.version].projection):
                return False
            if _lags(head, row) and _in_front(lane, head):
                left.append(row.name)
                return False
            return True

        for name in [
            name
            for name, subscriber in lane.subscribers.items()
            if is_applied_late(name, subscriber.projection)
        ]:
            lane.let_go(name)
        lane.scan(wanted)
        if left:
            self._behind.start()
        if retried:
            self._retrying.start()

    def _leave_behind(self, lane: Lane, head: int) -> bool:
        """Let go of subscriptions that lag far behind others. Returns whether there were any."""
        far = [
            name
            for name, subscriber in lane.subscribers.items()
            if head - subscriber.position > lanes.BEHIND_POSITIONS
        ]
        if not far or not _in_front(lane, head):
            return False
        for name in far:
            lane.let_go(name)
        return True

    # -- behind ------------------------------------------------------------------------------------

    def _run_behind(self) -> None:
        """Catch up lagging subscriptions, until none lags."""
        with self._connect("ludoteca projector") as conn:
            lane = Lane(conn, self._codec, self._models, self._stop, activates=self._activates)
            scanned = float("-inf")
            while not self._stop.is_set():
                head = lane.head()
                if joining := [
                    name
                    for name, subscriber in lane.subscribers.items()
                    if head - subscriber.position <= lanes.REJOIN_POSITIONS
                ]:
                    for name in joining:
                        lane.let_go(name)
                    checkpoints.wake(conn)
                if time.monotonic() - scanned > RESCAN_SECONDS or not lane.subscribers:
                    of_others = lane.scan(partial(_lags, head))
                    scanned = time.monotonic()
                    if not lane.subscribers and not of_others:
                        return
                if not lane.step(head):
                    self._stop.wait(RESCAN_SECONDS / 2)

    # -- retries -----------------------------------------------------------------------------------

    def _run_retries(self) -> None:
        with self._connect("ludoteca projector") as conn:
            Retrier(conn, self._codec, self._models, self._stop).run()


class _Helper:
    """A thread that runs while there is something to do for it."""

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        self._name = name
        self._work = work
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread unless it runs."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name=f"projector-{self._name}")
            self._thread.start()

    def join(self) -> None:
        """Wait for the thread to end."""
        if self._thread is not None:
            self._thread.join()


def _in_front(lane: Lane, head: int) -> bool:
    """Whether a lane has subscriptions that are up to date, which must not wait for others."""
    return any(
        head - subscriber.position <= lanes.BEHIND_POSITIONS
        for subscriber in lane.subscribers.values()
    )


def _lags(head: int, row: checkpoints.Subscription) -> bool:
    return head - row.position > lanes.BEHIND_POSITIONS


def _is_woken(conn: psycopg.Connection, head: int, timeout: float) -> bool:
    """Wait some seconds at most until the log has probably grown beyond its head, or subscriptions
    changed. Returns whether they did."""
    with contextlib.closing(conn.notifies(timeout=timeout)) as notes:
        for note in notes:
            if note.channel == checkpoints.WAKE:
                return True
            if not is_known(note.payload, head):
                break
    return False
