"""Pages of the log into the storages of feeds: rows and checkpoints commit together or not at all.

Rows that cannot be written lead to the event at fault by quartering the page; the quarters are
taken one by one, so that feeds beside it have their turns in between. Each commits for itself, and
the page is not read again.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg

from eventstore.consumers import checkpoints
from eventstore.consumers.reader import Page, Reader, collector_paused
from eventstore.database.postgres import AT_FAULT, TOO_MUCH
from kit.wording import described
from projections.engine.folding import Poisoned, RowsRefused, StoreFailed, TooMuchPoison, fold_page
from projections.engine.store import Store
from projections.projection import Projection, Rows

log = logging.getLogger(__name__)

CATCH_UP_PAGE = 50_000
"""Positions per step at most. A row is written once per page, however often it is touched: the
larger the page the fewer the writes. One of small events (100 bytes of payload) takes 75 MB while
it lasts."""

CACHED_ROWS = 20_000
"""Rows that a feed keeps in memory between pages: as its only writer it need not read them
again."""

MOST_PARKED = 1_000
"""Streams that a feed has in quarantine at most. More than that are no fault of the events: the
feed stands still, as it is, rather than leave ever more out of its rows."""

SAID_AT_ONCE = 10
"""Streams of which the log says one by one that they were parked, per page."""

TRIES_OF_ONE = 3
"""How often a single event may be too much for the server (a statement cancelled, no memory) before
it is at fault."""

POISON: tuple[type[Exception], ...] = (
    *AT_FAULT,
    UnicodeEncodeError,
    OverflowError,
    msgspec.MsgspecError,
    RowsRefused,
)
"""Errors of writing for which the rows themselves are at fault: trying again would end the same."""


class Registered(msgspec.Struct, frozen=True):
    """A projection with the store of its rows."""

    projection: Projection[Any]
    store: Store[Any]

    @property
    def storage(self) -> str:
        """The name of its first storage."""
        return f"{self.projection.name}_{self.projection.version}"


class Piece(NamedTuple):
    """Events that a feed has to fold still, after which it is at position `end`."""

    page: Page
    end: int


class Feed:
    """A projection being folded into one storage, up to a checkpoint."""

    def __init__(
        self,
        projection: Projection[Any],
        store: Store[Any],
        row: checkpoints.FeedRow,
        names: Collection[str],
    ) -> None:
        self.projection = projection
        self.store = store
        self.names = frozenset(names)  # the wire names that it folds
        self.name = row.feed
        self.storage = row.storage
        self.position = row.position
        self.ready_at: int | None = None  # where queries are to read it, if they do not yet
        self.parked: dict[UUID, int] = {}
        self.newly_parked: list[Poisoned] = []
        self.stride = CATCH_UP_PAGE  # smaller for a while after a page could not be read
        self.pieces: list[Piece] = []  # of a page that could not be written, the next one last
        self.failing = False  # at the page that a group was about to write
        self._tries = 0
        self._conn: psycopg.Connection | None = None
        self.rows: Rows[Any] = Rows(projection.row, self._fetch, CACHED_ROWS)

    def attach(self, conn: psycopg.Connection) -> None:
        """Start, or begin again, from what the database has. Raises CheckpointMoved when it has no
        such feed."""
        self._conn = conn
        row = checkpoints.feed(conn, self.name)
        if row is None:
            raise checkpoints.CheckpointMoved(self.name)
        self.position = row.position
        self.rows.discard()
        self.pieces.clear()
        self.parked = {p.stream_id: p.position for p in checkpoints.parked(conn, [self.name])}

    def _fetch(self, keys: Sequence[object]) -> Iterable[msgspec.Struct]:
        assert self._conn is not None
        try:
            return list(self.store.fetch(self._conn, self.storage, keys))
        except (psycopg.Error, StoreFailed):
            raise
        except Exception as error:
            raise StoreFailed(f"{type(error).__name__}: {error}") from error

    def fold(self, page: Page) -> None:
        """Fold a page in memory; parks the streams of events that cannot be applied. Raises
        TooMuchPoison."""
        room = max(0, MOST_PARKED - len(self.parked))
        for poisoned in fold_page(
            self.projection, self.names, self.rows, self.parked, page, at_most=room
        ):
            self.park(poisoned)

    def park(self, poisoned: Poisoned) -> None:
        """Set a stream aside from here on."""
        self.parked[poisoned.stream_id] = poisoned.position
        self.newly_parked.append(poisoned)

    def flush(self, conn: psycopg.Connection) -> None:
        """Write what was folded, and who was parked."""
        puts, deletes = self.rows.changes()
        self.store.write(conn, self.storage, puts, deletes)
        checkpoints.park(conn, self.name, self.newly_parked)

    def is_ready(self, position: int) -> bool:
        """Whether queries may read it from this position on, and did not before."""
        return self.ready_at is not None and position >= self.ready_at

    def flushed(self, position: int) -> None:
        """The page is safe."""
        self.ready_at = None if self.is_ready(position) else self.ready_at
        self.position = position
        self.stride = min(2 * self.stride, CATCH_UP_PAGE)
        self._tries = 0
        self.rows.written()
        for stream_id, at, _, error in self.newly_parked[:SAID_AT_ONCE]:
            log.warning(
                "feed %s parked stream %s at position %s: %s", self.name, stream_id, at, error
            )
        if len(self.newly_parked) > SAID_AT_ONCE:
            log.warning("feed %s parked %s streams in all", self.name, len(self.newly_parked))
        self.newly_parked.clear()

    def failed(self) -> None:
        """The page was not written."""
        self.rows.discard()
        for poisoned in self.newly_parked:
            self.parked.pop(poisoned.stream_id, None)
        self.newly_parked.clear()

    def divide(self, piece: Piece, error: Exception) -> Poisoned | None:
        """Take a piece that could not be written apart; if it is one event, returns what is wrong
        with it.

        In four: for as many tries as in two, and half the folding.

        Raises the error if it is no event's fault, or may not be.
        """
        mine = [
            (env, event)
            for env, event in piece.page
            if self._folds(env.name, env.stream_id, env.position)
        ]
        if len(mine) > 1:
            size = -(-len(mine) // 4)
            parts = [mine[start : start + size] for start in range(0, len(mine), size)]
            ends = [*(part[-1][0].position for part in parts[:-1]), piece.end]
            self.pieces += [Piece(part, end) for part, end in zip(parts, ends, strict=True)][::-1]
            return None
        self._tries += 1
        at_fault = isinstance(error, POISON) or self._tries >= TRIES_OF_ONE
        if not (mine and at_fault):
            self.pieces.append(piece)
            raise error
        if len(self.parked) >= MOST_PARKED:
            self.pieces.append(piece)
            raise TooMuchPoison(
                f"over {MOST_PARKED} streams, the last one: {described(error)}"
            ) from error
        env = mine[0][0]
        return Poisoned(env.stream_id, env.position, env.name, described(error))

    def _folds(self, name: str, stream_id: UUID, position: int) -> bool:
        return name in self.names and position < self.parked.get(stream_id, position + 1)


@collector_paused()
def advance(conn: psycopg.Connection, reader: Reader, group: Sequence[Feed], upto: int) -> None:
    """Fold a page into feeds at the same checkpoint, together.

    Raises CheckpointMoved, psycopg.Error and what a store raises; the feeds are then as they were,
    and the one whose rows could not be folded or written is `failing`.
    """
    start = group[0].position
    page, end = reader.next_page(conn, start, min(upto, start + min(feed.stride for feed in group)))
    _write(conn, group, page, end)


@collector_paused()
def advance_one(conn: psycopg.Connection, reader: Reader, feed: Feed, upto: int) -> None:
    """As `advance`, of one feed, or of what it has left of a page that could not be written: a
    quarter of it, and a quarter of that, until an event is found whose stream is parked.
    """
    if feed.pieces:
        piece = feed.pieces.pop()
    else:
        start = feed.position
        try:
            piece = Piece(*reader.next_page(conn, start, min(upto, start + feed.stride)))
        except TOO_MUCH:
            if feed.stride == 1:
                raise
            feed.stride = max(1, min(upto - start, feed.stride) // 2)
            return
    try:
        _write(conn, [feed], *piece)
    except (*POISON, *TOO_MUCH) as error:
        poisoned = feed.divide(piece, error)
        if poisoned is not None:
            feed.park(poisoned)
            _write(conn, [feed], [], piece.end)


def activate(conn: psycopg.Connection, ready: Sequence[Feed]) -> None:
    """Have queries read feeds that have caught up."""
    if ready:
        checkpoints.activate_filled(conn, [feed.name for feed in ready])
        for feed in ready:
            feed.store.activated(feed.storage)


def _write(conn: psycopg.Connection, group: Sequence[Feed], page: Page, end: int) -> None:
    start = group[0].position
    for feed in group:
        feed.failing = False
    try:
        with conn.transaction():
            # The checkpoints first: their row locks come before those of the tables, here as in
            # `rebuild.drop`.
            checkpoints.move(conn, [(feed.name, start, end) for feed in group])
            for feed in group:
                feed.failing = True
                feed.fold(page)
                feed.flush(conn)
                feed.failing = False
            activate(conn, [feed for feed in group if feed.is_ready(end)])
    except BaseException:
        for feed in group:
            feed.failed()
        raise
    for feed in group:
        feed.flushed(end)
