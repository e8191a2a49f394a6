"""A lane: a connection, and the feeds that it leads. Feeds at the same checkpoint go together.

A projector has a lane in front and, while some feeds lag behind others, one for those behind, in a
thread of its own: what is up to date never waits for what is not. Which of the two leads a feed is
told by how far it is from the head alone, and the lead itself by the database; so lanes of several
processes need not know of each other.
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
from projections.engine import restarting
from projections.engine.advancing import Feed, Registered, activate, advance, advance_one
from projections.engine.folding import StorageLost, TooMuchPoison

log = logging.getLogger(__name__)

REST_SECONDS = (1.0, 5.0)
"""The first and the longest pause of a feed whose store is in trouble; the others go on."""

BEHIND = 10_000
"""Positions by which a feed may lag and still go with those in front."""

JOINS = 1_000
"""Positions by which a feed that was behind may lag when it joins those in front."""

ENDS_THE_LEAD: tuple[type[Exception], ...] = (*AWAY, checkpoints.CheckpointMoved, OutdatedRelease)
"""Errors after which a lane begins anew: with another connection, and the checkpoints as they are
there."""

Models = Mapping[tuple[str, int], Registered]
"""Projections by name and version."""


def ends_the_lead(error: Exception) -> bool:
    """Whether it is the connection that failed, and not what was asked of it: who waits for a lock
    that somebody holds waits alone."""
    return isinstance(error, ENDS_THE_LEAD) and not isinstance(
        error, (*TOO_MUCH, psycopg.errors.LockNotAvailable)
    )


class Rest(msgspec.Struct):
    """How long a feed rests, until when (monotonic time), and what was said of it."""

    seconds: float
    until: float
    said: str


class Lane:
    """Leads feeds over one connection."""

    def __init__(
        self,
        conn: psycopg.Connection,
        codec: Codec,
        models: Models,
        stop: threading.Event,
        *,
        activates: bool,
    ) -> None:
        conn.execute("SET synchronous_commit = off")  # what is lost is folded again
        conn.execute(PLANNED_ONCE)
        conn.execute("SET enable_seqscan = off")  # perhaps while the log is tiny
        self._conn = conn
        self._codec = codec
        self._models = models
        self._stop = stop
        self._activates = activates
        self._unknown_names = UnknownNames(codec)
        self._readers: dict[frozenset[str], Reader] = {}
        self._rests: dict[str, Rest] = {}
        self._challenger = Challenger()
        self.feeds: dict[str, Feed] = {}

    # -- which feeds -------------------------------------------------------------------------------

    def scan(self, wanted: Callable[[checkpoints.FeedRow], bool]) -> bool:
        """Take the lead of those wanted that nobody leads; let go of those paused, dropped, to
        begin anew, or to be looked at again because the log may have gone back. Whether others lead
        some that are wanted."""
        require_current(self._conn)
        known = {
            row.feed: row
            for row in checkpoints.feeds(self._conn)
            if (row.projection, row.version) in self._models
        }
        for name in list(self.feeds):
            row = known.get(name)
            unfit = row is None or row.paused or row.building or row.astray or not row.examined
            if unfit or self._has_lost_rows(name):
                self.let_go(name)
        of_others = []
        for row in known.values():
            idle = (
                row.feed not in self.feeds
                and not row.paused
                and not row.building
                and self._is_awake(row.feed)
            )
            if idle and wanted(row):
                if checkpoints.try_lead(self._conn, row.feed):
                    self._lead(row.feed)
                else:
                    of_others.append(row.feed)
        self._challenger.look(self._conn, of_others)
        return bool(of_others)

    def let_go(self, name: str) -> None:
        """Let another lane, or another process, lead a feed."""
        del self.feeds[name]
        checkpoints.stop_leading(self._conn, name)

    def _lead(self, name: str) -> None:
        row = checkpoints.feed(self._conn, name)
        if row is None or row.paused or row.building:
            checkpoints.stop_leading(self._conn, name)
            return
        try:
            store = self._models[row.projection, row.version].store
            row = restarting.begin_anew_if_astray(self._conn, store, row)
            feed = feed_of(self._codec, self._models, row)
            feed.ready_at = row.ready_at if self._activates else None
            self._prepare(feed)
        except Exception as error:
            if ends_the_lead(error):
                raise
            self._rest(name, error)
            checkpoints.stop_leading(self._conn, name)
            return
        feed.attach(self._conn)
        self._aim([feed], self.head())
        if feed.is_ready(feed.position):
            with self._conn.transaction():
                activate(self._conn, [feed])
            feed.ready_at = None
        self.feeds[name] = feed

    @staticmethod
    def _aim(group: Iterable[Feed], head: int) -> None:
        """What catches up is not read before it has all that there is by now."""
        for feed in group:
            if feed.ready_at is not None:
                feed.ready_at = max(feed.ready_at, head)

    def _prepare(self, feed: Feed) -> None:
        """Make the storage. If there was one and it was lost, its rows are folded again from the
        start of the log."""
        if feed.position and not feed.store.exists(self._conn, feed.storage):
            log.warning("feed %s begins anew: %s is lost", feed.name, feed.storage)
            # First: what is created then is known to be empty.
            ready_at = checkpoints.begin_anew(self._conn, feed.name, feed.position)
            feed.position = 0
            feed.ready_at = ready_at if self._activates else None
        with self._conn.transaction():
            feed.store.prepare(self._conn, feed.storage)

    def _has_lost_rows(self, name: str) -> bool:
        """Whether a feed has to begin anew, its storage being gone: it may rest, or seem to be
        done."""
        feed = self.feeds[name]
        try:
            lost = not feed.store.exists(self._conn, feed.storage)
        except Exception as error:
            if ends_the_lead(error):
                raise
            if self._is_awake(name):
                self._rest(name, error)
            return False
        if lost:
            self._rests.pop(name, None)
        return lost

    # -- feeds in trouble --------------------------------------------------------------------------

    def _rest(self, name: str, error: Exception) -> None:
        first, longest = REST_SECONDS
        before = self._rests.get(name)
        why = "" if isinstance(error, TooMuchPoison | NewerEvent) else "its store is in trouble: "
        said = f"{why}{described(error)}"
        if before is None or before.said != said:
            log.warning("feed %s rests: %s", name, said)
        seconds = min(2 * before.seconds, longest) if before else first
        self._rests[name] = Rest(seconds, time.monotonic() + seconds, said)

    def _is_awake(self, name: str) -> bool:
        return name not in self._rests or self._rests[name].until <= time.monotonic()

    # -- steps -------------------------------------------------------------------------------------

    def head(self) -> int:
        """The position of the last event."""
        return self._unknown_names.look(self._conn)

    def step(self, head: int) -> bool:
        """Advance the feeds in front if there is something new, then a page of those behind. False:
        nothing to do."""
        awake = [feed for feed in self.feeds.values() if self._is_awake(feed.name)]
        if not awake:
            return False
        self._aim(awake, head)
        front = max(feed.position for feed in awake)
        moved = False
        if front < head:
            self._advance([feed for feed in awake if feed.position == front], head)
            moved = True
        behind = [feed for feed in awake if feed.position < front]
        if behind and not self._stop.is_set():
            lowest = min(feed.position for feed in behind)
            next_stop = min(feed.position for feed in awake if feed.position > lowest)
            self._advance([feed for feed in behind if feed.position == lowest], next_stop)
            moved = True
        return moved

    def _advance(self, group: list[Feed], upto: int) -> None:
        """Advance feeds together. Where that fails, the one that failed goes alone from here on, so
        that it does not hold up the others."""
        try:
            upto = self._unknown_names.known_upto(self._conn, group[0].position, upto)
            if len(group) > 1 and not any(feed.pieces for feed in group):
                advance(self._conn, self._reader(group), group, upto)
                for feed in group:
                    self._rests.pop(feed.name, None)
            else:
                for feed in group:
                    self._advance_one(feed, upto)
        except NewerEvent as error:
            for feed in group:
                self._rest(feed.name, error)
                self.let_go(feed.name)
        except Exception as error:
            if ends_the_lead(error):
                raise
            failing = [feed for feed in group if feed.failing] or group
            others = [feed for feed in group if feed not in failing]
            if others:
                self._advance(others, upto)
            for feed in failing:
                self._advance_one(feed, upto)

    def _advance_one(self, feed: Feed, upto: int) -> None:
        try:
            advance_one(self._conn, self._reader([feed]), feed, upto)
        except Exception as error:
            if ends_the_lead(error):
                raise
            if isinstance(error, StorageLost):
                self.let_go(feed.name)  # whoever takes the lead next begins anew
            else:
                self._rest(feed.name, error)
        else:
            self._rests.pop(feed.name, None)

    def _reader(self, group: Iterable[Feed]) -> Reader:
        names = frozenset[str]().union(*(feed.names for feed in group))
        if names not in self._readers:
            self._readers[names] = Reader(self._codec, list(names))
        return self._readers[names]


def feed_of(codec: Codec, models: Models, row: checkpoints.FeedRow) -> Feed:
    """The feed of a row, to be attached to a connection that leads it."""
    registered = models[row.projection, row.version]
    return Feed(
        registered.projection, registered.store, row, codec.names_of(registered.projection.folds)
    )
