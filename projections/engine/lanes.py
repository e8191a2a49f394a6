"""A lane: a connection, and the subscriptions that it leads. Subscriptions at the same checkpoint
go together.

A projector has a lane in front and, while some subscriptions lag far behind others, a lane for
those behind, in a thread of its own, so that up-to-date read models never wait for others. A
subscription's distance from the head alone decides which lane leads it, and a lock in the database
decides which process; so lanes of several processes need not know of each other.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping

import msgspec
import psycopg

from eventstore.codec import Codec
from eventstore.consumers import checkpoints
from eventstore.consumers.leadership import PLANNED_ONCE, Challenger
from eventstore.consumers.newer_events import NewerEvent, UnknownNames
from eventstore.consumers.reader import Reader
from eventstore.database.postgres import AWAY, TOO_MUCH
from eventstore.database.release import OutdatedRelease, require_current
from kit.wording import described
from projections.engine import amending, restarting
from projections.engine.advancing import Registered, Subscriber, activate, advance, advance_one
from projections.engine.folding import StorageLost, TooMuchPoison
from projections.engine.tables import existing_tables

logger = logging.getLogger(__name__)

BACKOFF_SECONDS = (1.0, 5.0)
"""The first and the longest pause of a subscription whose store is in trouble; the others go on."""

BEHIND_POSITIONS = 10_000
"""Positions by which a subscription may lag and still go with those in front."""

REJOIN_POSITIONS = 1_000
"""Positions by which a subscription that was behind may lag when it joins those in front."""

ENDS_THE_LEAD: tuple[type[Exception], ...] = (*AWAY, checkpoints.CheckpointMoved, OutdatedRelease)
"""Errors after which a lane begins anew, with another connection and the checkpoints in the
database."""

Models = Mapping[tuple[str, int], Registered]
"""Projections by name and version."""


def ends_the_lead(error: Exception) -> bool:
    """Whether the connection failed, and not just one statement: a subscription that waits for a
    lock waits alone."""
    return isinstance(error, ENDS_THE_LEAD) and not isinstance(
        error, (*TOO_MUCH, psycopg.errors.LockNotAvailable)
    )


class Backoff(msgspec.Struct):
    """The pause of a subscription in trouble: its length, its end (monotonic time), and the reason
    as logged."""

    seconds: float
    until: float
    said: str


class Lane:
    """Leads subscriptions over one connection."""

    def __init__(
        self,
        conn: psycopg.Connection,
        codec: Codec,
        models: Models,
        stop: threading.Event,
        *,
        activates: bool,
    ) -> None:
        conn.execute("SET synchronous_commit = off")  # a lost commit is folded again
        conn.execute(PLANNED_ONCE)
        # else a plan made while the log is tiny would keep its scan
        conn.execute("SET enable_seqscan = off")
        self._conn = conn
        self._codec = codec
        self._models = models
        self._stop = stop
        self._activates = activates
        self._unknown_names = UnknownNames(codec)
        self._readers: dict[frozenset[str], Reader] = {}
        self._backoffs: dict[str, Backoff] = {}
        self._challenger = Challenger()
        self.subscribers: dict[str, Subscriber] = {}

    # -- which subscriptions -----------------------------------------------------------------------

    def scan(self, wanted: Callable[[checkpoints.Subscription], bool]) -> bool:
        """Lead the `wanted` subscriptions that nobody leads; let go of those that are paused,
        dropped, have to begin anew, or were not examined since the log may have gone back. Returns
        whether others lead some of the wanted ones."""
        require_current(self._conn)
        known = {
            row.name: row
            for row in checkpoints.subscriptions(self._conn)
            if (row.projection, row.version) in self._models
        }
        storages = [(each.store, each.storage) for each in self.subscribers.values()]
        tables = [table for store, storage in storages for table in store.tables(storage)]
        existing = existing_tables(self._conn, tables)
        for name in list(self.subscribers):
            row = known.get(name)
            unfit = row is None or row.paused or row.building or row.astray or not row.examined
            if unfit or self._has_lost_rows(name, existing):
                self.let_go(name)
        of_others = []
        for row in known.values():
            idle = (
                row.name not in self.subscribers
                and not row.paused
                and not row.building
                and self._is_awake(row.name)
            )
            if idle and wanted(row):
                if checkpoints.try_lead(self._conn, row.name):
                    self._lead(row.name)
                else:
                    of_others.append(row.name)
        self._challenger.look(self._conn, of_others)
        return bool(of_others)

    def let_go(self, name: str) -> None:
        """Let another lane, or another process, lead a subscription."""
        del self.subscribers[name]
        checkpoints.stop_leading(self._conn, name)

    def _lead(self, name: str) -> None:
        row = checkpoints.subscription(self._conn, name)
        if row is None or row.paused or row.building:
            checkpoints.stop_leading(self._conn, name)
            return
        try:
            store = self._models[row.projection, row.version].store
            row = restarting.begin_anew_if_astray(self._conn, store, row)
            subscriber = subscriber_of(self._codec, self._models, row)
            subscriber.ready_at = row.ready_at if self._activates else None
            self._prepare(subscriber)
        except Exception as error:
            if ends_the_lead(error):
                raise
            self._back_off(name, error)
            checkpoints.stop_leading(self._conn, name)
            return
        subscriber.attach(self._conn)
        self._raise_ready_at([subscriber], self.head())
        if subscriber.is_ready(subscriber.position):
            with self._conn.transaction():
                activate(self._conn, [subscriber])
            subscriber.ready_at = None
        self.subscribers[name] = subscriber

    @staticmethod
    def _raise_ready_at(group: Iterable[Subscriber], head: int) -> None:
        """Move the position from which queries may read new storages up to the head."""
        for subscriber in group:
            if subscriber.ready_at is not None:
                subscriber.ready_at = max(subscriber.ready_at, head)

    def _prepare(self, subscriber: Subscriber) -> None:
        """Create the storage. If it existed and was lost, the subscription begins anew from the
        start of the log."""
        if subscriber.position and not subscriber.store.exists(self._conn, subscriber.storage):
            logger.warning("feed %s begins anew: %s is lost", subscriber.name, subscriber.storage)
            # First: what is created then is known to be empty.
            ready_at = checkpoints.begin_anew(self._conn, subscriber.name, subscriber.position)
            subscriber.position = 0
            subscriber.ready_at = ready_at if self._activates else None
        with self._conn.transaction():
            subscriber.store.prepare(self._conn, subscriber.storage)

    def _has_lost_rows(self, name: str, existing: set[str]) -> bool:
        """Whether the subscription's storage is gone, so that it has to begin anew; `existing` are
        the tables that are there."""
        subscriber = self.subscribers[name]
        tables = subscriber.store.tables(subscriber.storage)
        try:
            if tables:
                lost = not existing.issuperset(tables)
            else:
                lost = not subscriber.store.exists(self._conn, subscriber.storage)
        except Exception as error:
            if ends_the_lead(error):
                raise
            if self._is_awake(name):
                self._back_off(name, error)
            return False
        if lost:
            self._backoffs.pop(name, None)
        return lost

    # -- subscriptions in trouble ------------------------------------------------------------------

    def _back_off(self, name: str, error: Exception) -> None:
        first, longest = BACKOFF_SECONDS
        before = self._backoffs.get(name)
        why = "" if isinstance(error, TooMuchPoison | NewerEvent) else "its store is in trouble: "
        said = f"{why}{described(error)}"
        if before is None or before.said != said:
            logger.warning("feed %s rests: %s", name, said)
        seconds = min(2 * before.seconds, longest) if before else first
        self._backoffs[name] = Backoff(seconds, time.monotonic() + seconds, said)

    def _is_awake(self, name: str) -> bool:
        return name not in self._backoffs or self._backoffs[name].until <= time.monotonic()

    # -- steps -------------------------------------------------------------------------------------

    def head(self) -> int:
        """The position of the last event."""
        return self._unknown_names.look(self._conn)

    def lags(self, head: int) -> bool:
        """Whether a subscription that does not rest has events up to this position to fold."""
        return any(
            subscriber.position < head and self._is_awake(subscriber.name)
            for subscriber in self.subscribers.values()
        )

    def step(self, head: int) -> bool:
        """Advance the subscriptions in front if there are new events, then those behind by a page.
        Returns whether there was anything to do."""
        awake = [
            subscriber
            for subscriber in self.subscribers.values()
            if self._is_awake(subscriber.name)
        ]
        if not awake:
            return False
        awake = [subscriber for subscriber in awake if self._takes_up_amendments(subscriber)]
        if not awake:
            return False
        self._raise_ready_at(awake, head)
        front = max(subscriber.position for subscriber in awake)
        moved = False
        if front < head:
            self._advance(
                [subscriber for subscriber in awake if subscriber.position == front], head
            )
            moved = True
        behind = [subscriber for subscriber in awake if subscriber.position < front]
        if behind and not self._stop.is_set():
            lowest = min(subscriber.position for subscriber in behind)
            next_stop = min(
                subscriber.position for subscriber in awake if subscriber.position > lowest
            )
            self._advance(
                [subscriber for subscriber in behind if subscriber.position == lowest], next_stop
            )
            moved = True
        return moved

    def _takes_up_amendments(self, subscriber: Subscriber) -> bool:
        """Bring a subscription up to the latest amendments, by which its events are read from now
        on. Returns whether it may go on."""
        amendments = self._unknown_names.amendments
        if subscriber.amended == amendments.upto:
            return True
        try:
            amending.take_up(self._conn, self._codec, subscriber, amendments)
        except Exception as error:
            if ends_the_lead(error):
                raise
            self._back_off(subscriber.name, error)
            return False
        return True

    def _advance(self, group: list[Subscriber], upto: int) -> None:
        """Advance subscriptions together. If that fails, the failing one goes on alone, so that it
        does not hold up the others."""
        try:
            upto = self._unknown_names.known_upto(self._conn, group[0].position, upto)
            if len(group) > 1 and not any(subscriber.pieces for subscriber in group):
                advance(self._conn, self._reader(group), group, upto)
                for subscriber in group:
                    self._backoffs.pop(subscriber.name, None)
            else:
                for subscriber in group:
                    self._advance_one(subscriber, upto)
        except NewerEvent as error:
            for subscriber in group:
                self._back_off(subscriber.name, error)
                self.let_go(subscriber.name)
        except Exception as error:
            if ends_the_lead(error):
                raise
            failing = [subscriber for subscriber in group if subscriber.failing] or group
            others = [subscriber for subscriber in group if subscriber not in failing]
            if others:
                self._advance(others, upto)
            for subscriber in failing:
                self._advance_one(subscriber, upto)

    def _advance_one(self, subscriber: Subscriber, upto: int) -> None:
        try:
            advance_one(self._conn, self._reader([subscriber]), subscriber, upto)
        except Exception as error:
            if ends_the_lead(error):
                raise
            if isinstance(error, StorageLost):
                self.let_go(subscriber.name)  # the next leader begins anew
            else:
                self._back_off(subscriber.name, error)
        else:
            self._backoffs.pop(subscriber.name, None)

    def _reader(self, group: Iterable[Subscriber]) -> Reader:
        names = frozenset[str]().union(*(subscriber.names for subscriber in group))
        if names not in self._readers:
            self._readers[names] = Reader(self._codec, list(names))
        self._readers[names].amendments = self._unknown_names.amendments
        return self._readers[names]


def subscriber_of(codec: Codec, models: Models, row: checkpoints.Subscription) -> Subscriber:
    """The subscriber of a subscription, to be attached to a connection that leads it."""
    registered = models[row.projection, row.version]
    return Subscriber(
        registered.projection, registered.store, row, codec.names_of(registered.projection.folds)
    )
