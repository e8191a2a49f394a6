"""The database at one moment: log, read models, consumers and queues in one snapshot.

Much of the shop follows the log a little later: a payment is captured, and only then is its order
confirmed, the game granted, the ledger posted. What is missing at a moment may just not have
followed yet. `Followed` says up to which position everything has; a subject is judged only if
nothing happened to it since.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import dict_row

from eventstore.amendments import load
from eventstore.codec import Codec
from eventstore.consumers import checkpoints
from eventstore.consumers.reader import Page, Reader
from eventstore.consumers.streams import read_streams
from projections.engine.advancing import Registered
from queries.engine.tables import models_in, with_tables

REACTORS = ("ledger", "settlement", "deposits", "library_grants")
"""The reactors whose reactions the invariants expect."""

DEPTH = 4
"""The most reactions in a row from a captured payment to the last thing that follows from it: a
refund is requested, carried out, recorded by the order, and the game removed."""

_REMEMBERED = 1_000
"""Moments that are remembered: at one every ten seconds, those of almost three hours."""

LONG_STREAM = 5_000
SAMPLED_EVENTS = 100_000

_LAST = """
SELECT coalesce(max(position), 0) FROM unnest(%s::uuid[]) AS s(id) CROSS JOIN LATERAL (
    SELECT position FROM log.events WHERE stream_id = s.id ORDER BY version DESC LIMIT 1
) AS last
"""

_SHORT = """
SELECT id FROM (
    SELECT id, version, sum(version) OVER (ORDER BY version, id) AS together
    FROM (
        SELECT s.id, coalesce((
            SELECT version FROM log.events WHERE stream_id = s.id ORDER BY version DESC LIMIT 1
        ), 0) AS version
        FROM unnest(%s::uuid[]) AS s(id)
    ) AS streams
) AS shortest_first
WHERE version <= %s AND together <= %s
"""

_STREAMS = """
SELECT DISTINCT stream_id, name FROM log.events WHERE position > %s AND position <= %s
"""


class NotReady(Exception):
    """A read model that an invariant needs cannot be read yet."""


Range = tuple[int, int]
"""Positions after one, up to another."""


class Part(msgspec.Struct, frozen=True):
    """A part of the log, and the streams that it touches, by their kind."""

    ranges: Sequence[Range]
    streams: Mapping[str, Sequence[UUID]]


class Followed:
    """Up to which position all that follows has followed, told from where consumers were at earlier
    moments.

    The read models show a moment wholly once they have passed its head. At that moment the reactors
    had reacted to everything up to their checkpoints. So what follows at once from any event up to
    there is shown; and so on, a reaction at a time, from moment to earlier moment.
    """

    def __init__(self) -> None:
        self._moments: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)

    def forget(self) -> None:
        """Forget all moments when the log went back."""
        self._moments.clear()

    def upto(self, head: int, reacted: int, shown: int) -> int:
        """The position, where the log ends at `head`, all reactors have reacted to `reacted`, and
        all read models show the log up to `shown`."""
        self._moments.append((head, reacted))
        upto = shown
        for _ in range(DEPTH):
            earlier = [position for ends, position in self._moments if ends <= upto]
            if not earlier:
                return 0
            upto = min(earlier[-1], upto)
        return upto


class Moment:
    """A snapshot, within a transaction of `conn`. `now` is the deciding clock's time, `grace` how
    late things may be."""

    def __init__(
        self,
        conn: psycopg.Connection,
        codec: Codec,
        models: Sequence[Registered],
        followed: Followed,
        now: datetime,
        grace: timedelta,
        since: datetime | None = None,
    ) -> None:
        """`since` is when the worker began: what was due before it has had no more time than that.
        None: it is taken to work all the time."""
        self.conn = conn
        self.codec = codec
        self.now = now
        self.grace = grace
        self.caught_up = since is None or since < now - grace
        """Whether the worker has had the grace for what came due while none ran."""
        self.head = checkpoints.head(conn)
        subscriptions = checkpoints.subscriptions(conn)
        self._versions = {each.projection.name: each.projection.version for each in models}
        self.active = {
            row.projection: row
            for row in subscriptions
            if row.active and self._versions.get(row.projection) == row.version
        }
        """The subscriptions that queries read, by the name of their read model."""
        reactors = [
            0 if row.astray else row.position for row in subscriptions if row.projection in REACTORS
        ]
        reacted = min(reactors) if len(reactors) == len(REACTORS) else 0
        tables = [each.projection.name for each in models if each.store.transactional]
        shown = min(
            (self.active[name].position if name in self.active else 0 for name in tables),
            default=0,
        )
        self.settled = followed.upto(self.head, reacted, shown)
        """What follows from events up to here has followed, and every read model shows it."""

    def part(self, *ranges: Range) -> Part:
        """The part of the log within these ranges."""
        streams: dict[str, dict[UUID, None]] = {}
        for between in ranges:
            for stream_id, name in self.conn.execute(_STREAMS, between, prepare=True):
                if (kind := self.codec.kinds.get(name)) is not None:
                    streams.setdefault(kind, {})[stream_id] = None
        return Part(ranges, {kind: list(ids) for kind, ids in streams.items()})

    def page(self, part: Part) -> Page:
        """The events of a part that this release knows."""
        amendments = load(self.conn).as_of(self.head)
        reader = Reader(self.codec, list(self.codec.kinds), amendments=amendments)
        return [placed for between in part.ranges for placed in reader.page(self.conn, *between)]

    def rows(self, query: str, **values: object) -> list[dict[str, Any]]:
        """The rows of a query over read models (`@name`), as `queries.engine.tables` reads it. It
        may use `now`, the time before which things are `late`, whether the worker has `caught_up`,
        and this release's read models with their `versions`. Raises NotReady."""
        tables = {}
        for name in models_in(query):
            if name not in self.active:
                raise NotReady(f"{name} cannot be read yet")
            tables[name] = f'read."{self.active[name].storage}"'
        with self.conn.cursor(row_factory=dict_row) as cursor:
            always = {
                "now": self.now,
                "late": self.now - self.grace,
                "caught_up": self.caught_up,
                "models": list(self._versions),
                "versions": list(self._versions.values()),
            }
            values = {**always, **values}
            return cursor.execute(with_tables(query, tables).encode(), values).fetchall()

    def is_settled(self, streams: Sequence[UUID]) -> bool:
        """Whether nothing happened to any of these streams since all has followed."""
        if not streams:
            return True
        row = self.conn.execute(_LAST, (list(streams),), prepare=True).fetchone()
        assert row is not None
        return bool(row[0] <= self.settled)

    def short(self, streams: Iterable[UUID]) -> list[UUID]:
        """Those of the streams that a sample folds: of at most LONG_STREAM events, and the shortest
        first, at most SAMPLED_EVENTS together. `whole` has the others."""
        values = (list(streams), LONG_STREAM, SAMPLED_EVENTS)
        return [found for (found,) in self.conn.execute(_SHORT, values)]

    def events(self, streams: Iterable[UUID]) -> dict[UUID, Page]:
        """All events of these streams that this release knows, in order."""
        return read_streams(self.conn, self.codec, streams, self.head)


@contextmanager
def moment_of(
    conn: psycopg.Connection,
    codec: Codec,
    models: Sequence[Registered],
    followed: Followed,
    now: datetime,
    grace: timedelta,
    since: datetime | None = None,
) -> Iterator[Moment]:
    """The database as it is now, until the end of the block. Raises psycopg.Error."""
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield Moment(conn, codec, models, followed, now, grace, since)
