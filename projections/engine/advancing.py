"""Folds pages of the log into storages; rows and checkpoints commit together or not at all.

When rows cannot be written, quartering the page again and again leads to the event at fault. The
quarters commit one by one, so that other subscriptions have their turns in between, and the page is
not read again.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from time import time_ns
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import psycopg

from eventstore.consumers import checkpoints, quarantine
from eventstore.consumers.reader import Page, Reader, collector_paused
from eventstore.database.postgres import AT_FAULT, TOO_MUCH
from kit import tracing
from kit.metrics import FOLDED_EVENTS
from kit.wording import described
from projections.engine.folding import Poisoned, RowsRefused, StoreFailed, TooMuchPoison, fold_page
from projections.engine.spans import record_folds
from projections.engine.store import Store
from projections.projection import Projection, Rows

logger = logging.getLogger(__name__)

MAX_STRIDE = 50_000
"""The maximal positions per step. A row is written once per page, however often it is touched, so
larger pages mean fewer writes. A page of small events (100 bytes of payload) takes 75 MB."""

CACHED_ROWS = 20_000
"""Rows that a subscriber keeps in memory between pages: as their only writer it need not read them
again."""

MAX_QUARANTINED = 1_000
"""The most streams that a subscription has in quarantine. Beyond that the events are not at fault,
and the subscription stands still rather than leave ever more out of its rows."""

LOGGED_STREAMS_PER_PAGE = 10
"""Per page, how many quarantined streams are logged one by one."""

MAX_TRIES_OF_ONE_EVENT = 3
"""How often a single event may be too much for the server (a statement cancelled, no memory) before
it is at fault."""

POISON: tuple[type[Exception], ...] = (
    *AT_FAULT,
    UnicodeEncodeError,
    OverflowError,
    msgspec.MsgspecError,
    RowsRefused,
)
"""Errors of writing that come from the rows themselves, so that a retry would fail again."""


class Registered(msgspec.Struct, frozen=True):
    """A projection with the store of its rows."""

    projection: Projection[Any]
    store: Store[Any]

    @property
    def storage(self) -> str:
        """The name of the projection's first storage."""
        return f"{self.projection.name}_{self.projection.version}"


class Piece(NamedTuple):
    """Events still to be folded, after which the subscription is at position `end`."""

    page: Page
    end: int


class Subscriber:
    """A projection being folded into one storage, up to a checkpoint."""

    def __init__(
        self,
        projection: Projection[Any],
        store: Store[Any],
        row: checkpoints.Subscription,
        names: Collection[str],
    ) -> None:
        self.projection = projection
        self.store = store
        self.names = frozenset(names)  # the wire names that it folds
        self.name = row.name
        self.storage = row.storage
        self.position = row.position
        self.amended = row.amended
        # from which position on queries may read it; None: they do
        self.ready_at: int | None = None
        self.quarantined: dict[UUID, int] = {}
        self.newly_quarantined: list[Poisoned] = []
        self.stride = MAX_STRIDE  # smaller for a while after a page could not be read
        # what is left of a page that could not be written, the next piece last
        self.pieces: list[Piece] = []
        self.failing = False  # while its rows of a group's page are folded and written
        self._tries = 0
        self._conn: psycopg.Connection | None = None
        self.rows: Rows[Any] = Rows(projection.row, self._fetch, CACHED_ROWS)

    def attach(self, conn: psycopg.Connection) -> None:
        """Start from the checkpoint in the database. Raises CheckpointMoved when the subscription
        is gone."""
        self._conn = conn
        row = checkpoints.subscription(conn, self.name)
        if row is None:
            raise checkpoints.CheckpointMoved(self.name)
        self.position = row.position
        self.amended = row.amended
        self.rows.discard()
        self.pieces.clear()
        self.quarantined = {p.stream_id: p.position for p in quarantine.held(conn, [self.name])}

    def _fetch(self, keys: Sequence[object]) -> Iterable[msgspec.Struct]:
        assert self._conn is not None
        try:
            return list(self.store.fetch(self._conn, self.storage, keys))
        except (psycopg.Error, StoreFailed):
            raise
        except Exception as error:
            raise StoreFailed(f"{type(error).__name__}: {error}") from error

    def fold(self, page: Page) -> None:
        """Fold a page in memory, and quarantine the streams of events that cannot be applied.
        Raises TooMuchPoison."""
        room = max(0, MAX_QUARANTINED - len(self.quarantined))
        for poisoned in fold_page(
            self.projection,
            self.names,
            self.rows,
            self.quarantined,
            page,
            presume_new=self.store.transactional,
            at_most=room,
        ):
            self.quarantine(poisoned)

    def quarantine(self, poisoned: Poisoned) -> None:
        """Skip a stream from this event on."""
        self.quarantined[poisoned.stream_id] = poisoned.position
        self.newly_quarantined.append(poisoned)

    def flush(self, conn: psycopg.Connection) -> None:
        """Write the folded rows and the newly quarantined streams."""
        puts, deletes = self.rows.changes()
        self.store.write(conn, self.storage, puts, deletes)
        quarantine.add(conn, self.name, self.newly_quarantined)

    def is_ready(self, position: int) -> bool:
        """Whether queries may begin to read the storage at this position."""
        return self.ready_at is not None and position >= self.ready_at

    def flushed(self, position: int) -> None:
        """Move on after the page was committed."""
        self.ready_at = None if self.is_ready(position) else self.ready_at
        FOLDED_EVENTS.labels(self.name).inc(position - self.position)
        self.position = position
        self.stride = min(2 * self.stride, MAX_STRIDE)
        self._tries = 0
        self.rows.written()
        for stream_id, at, _, error in self.newly_quarantined[:LOGGED_STREAMS_PER_PAGE]:
            logger.warning(
                "feed %s parked stream %s at position %s: %s", self.name, stream_id, at, error
            )
        if len(self.newly_quarantined) > LOGGED_STREAMS_PER_PAGE:
            logger.warning(
                "feed %s parked %s streams in all", self.name, len(self.newly_quarantined)
            )
        self.newly_quarantined.clear()

    def failed(self) -> None:
        """Forget the page, which was not committed."""
        self.rows.discard()
        for poisoned in self.newly_quarantined:
            self.quarantined.pop(poisoned.stream_id, None)
        self.newly_quarantined.clear()

    def divide(self, piece: Piece, error: Exception) -> Poisoned | None:
        """Divide a piece that could not be written; returns the stream to quarantine if it is one
        event.

        It is divided in four, which takes as many tries as halving, and half the folding. Raises
        the error when the event may not be at fault.
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
        at_fault = isinstance(error, POISON) or self._tries >= MAX_TRIES_OF_ONE_EVENT
        if not (mine and at_fault):
            self.pieces.append(piece)
            raise error
        if len(self.quarantined) >= MAX_QUARANTINED:
            self.pieces.append(piece)
            raise TooMuchPoison(
                f"over {MAX_QUARANTINED} streams, the last one: {described(error)}"
            ) from error
        env = mine[0][0]
        return Poisoned(env.stream_id, env.position, env.name, described(error))

    def _folds(self, name: str, stream_id: UUID, position: int) -> bool:
        return name in self.names and position < self.quarantined.get(stream_id, position + 1)


@collector_paused()
def advance(
    conn: psycopg.Connection, reader: Reader, group: Sequence[Subscriber], upto: int
) -> None:
    """Fold a page into subscriptions at the same checkpoint, together.

    Raises CheckpointMoved, psycopg.Error and what a store raises. The subscribers are then as
    before, and the one whose rows could not be folded or written is `failing`.
    """
    start = group[0].position
    page, end = reader.next_page(
        conn, start, min(upto, start + min(subscriber.stride for subscriber in group))
    )
    _write(conn, group, page, end)


@collector_paused()
def advance_one(
    conn: psycopg.Connection, reader: Reader, subscriber: Subscriber, upto: int
) -> None:
    """As `advance`, for one subscription. After a page that could not be written, it takes a
    quarter of the page, and a quarter of that, until it finds the event whose stream to quarantine.
    """
    if subscriber.pieces:
        piece = subscriber.pieces.pop()
    else:
        start = subscriber.position
        try:
            piece = Piece(*reader.next_page(conn, start, min(upto, start + subscriber.stride)))
        except TOO_MUCH:
            if subscriber.stride == 1:
                raise
            subscriber.stride = max(1, min(upto - start, subscriber.stride) // 2)
            return
    try:
        _write(conn, [subscriber], *piece)
    except (*POISON, *TOO_MUCH) as error:
        poisoned = subscriber.divide(piece, error)
        if poisoned is not None:
            subscriber.quarantine(poisoned)
            _write(conn, [subscriber], [], piece.end)


def activate(conn: psycopg.Connection, ready: Sequence[Subscriber]) -> None:
    """Let queries read subscriptions that have caught up."""
    if ready:
        checkpoints.activate_caught_up(conn, [subscriber.name for subscriber in ready])
        for subscriber in ready:
            subscriber.store.activated(subscriber.storage)


def _write(conn: psycopg.Connection, group: Sequence[Subscriber], page: Page, end: int) -> None:
    start, began = group[0].position, time_ns()
    for subscriber in group:
        subscriber.failing = False
    try:
        with conn.transaction():
            # The checkpoints first: their row locks come before those of the tables, here as in
            # `rebuild.drop`.
            checkpoints.move(conn, [(subscriber.name, start, end) for subscriber in group])
            for subscriber in group:
                subscriber.failing = True
                subscriber.fold(page)
                subscriber.flush(conn)
                subscriber.failing = False
            activate(conn, [subscriber for subscriber in group if subscriber.is_ready(end)])
        live = [subscriber for subscriber in group if subscriber.ready_at is None]
    except BaseException:
        for subscriber in group:
            subscriber.failed()
        raise
    for subscriber in group:
        subscriber.flushed(end)
    if tracing.is_on():
        record_folds(conn, [(each.projection.name, each.names) for each in live], page, began)
