"""The mirror's side in PostgreSQL: its checkpoint, and the function that copies events."""

from collections.abc import Mapping, Sequence
from typing import Self
from uuid import UUID

import msgspec
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from adapters.kurrentdb.mirrored_chain import digest_of, times_of
from adapters.kurrentdb.wire import Copied, CopiedOnce
from eventstore.append import binary_arrays as pg
from eventstore.append.sender import REGISTER, TYPES
from eventstore.chain import cause_in_bytes, encoded_time

_COPY = """
SELECT log.mirror_v1(
    %s, %s, %b::log.new_event_v4[], %b::bytea[], %s::timestamptz[], %b::log.new_once[], %s
)
"""
_STATE = """
SELECT coalesce((SELECT max(position) FROM log.events), 0), m.commit_position, m.position,
    (SELECT event_id FROM log.events e WHERE e.position = m.position)
FROM (SELECT) AS one LEFT JOIN log.mirror m ON true
"""
_HASH = "SELECT hash FROM log.events WHERE position = %s"

MIRROR_MOVED, OTHER_EVENT = "LT002", "LT003"
"""SQLSTATEs of log.mirror_v1."""


class Checkpoint(msgspec.Struct, frozen=True):
    """How far the mirror is: our event at `position` (0: none) is `event_id`, and has
    `commit_position` in KurrentDB."""

    commit_position: int = 0
    position: int = 0
    event_id: UUID | None = None


class MirrorMoved(Exception):
    """Another mirror has moved the checkpoint. Nothing was copied."""


class OtherEvent(Exception):
    """PostgreSQL has another event at a position than KurrentDB. Nothing was copied."""

    def __init__(self, position: int) -> None:
        super().__init__(f"another event is at position {position}")
        self.position = position


class _Array(bytes):
    """An array in PostgreSQL's binary format."""


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        return obj


class MirrorTable:
    """The mirrored log over one connection."""

    def __init__(self, conn: psycopg.AsyncConnection, types: tuple[int, int]) -> None:
        self._conn = conn
        self._new_event, self._new_once = types

    @classmethod
    async def open(cls, conn: psycopg.AsyncConnection, kinds: Mapping[str, str]) -> Self:
        """`kinds`: the kind of stream of each wire name that this program knows. Raises
        psycopg.Error."""
        conn.adapters.register_dumper(_Array, _ArrayDumper)
        await conn.execute(REGISTER, (list(kinds), list(kinds.values())))
        types = await (await conn.execute(TYPES)).fetchone()
        assert types is not None
        return cls(conn, (types[0], types[1]))

    async def state(self) -> tuple[Checkpoint | None, int]:
        """Where the mirror goes on (None where nothing was mirrored yet), and the position of the
        last event, mirrored or not."""
        row = await (await self._conn.execute(_STATE)).fetchone()
        assert row is not None
        head, *checkpoint = row
        return None if checkpoint[0] is None else Checkpoint(*checkpoint), head

    async def hash(self, position: int) -> bytes | None:
        """The chain's hash at a position; None beyond the end."""
        row = await (await self._conn.execute(_HASH, (position,))).fetchone()
        return None if row is None else bytes(row[0])

    async def halt(self, reason: str) -> None:
        """Note why the mirror stands still."""
        await self._conn.execute("SELECT log.halt_mirror(%s)", (reason,))

    async def copy(
        self,
        after: Checkpoint | None,
        upto: int,
        events: Sequence[Copied],
        onces: Sequence[CopiedOnce] = (),
    ) -> Checkpoint:
        """Copy whole appends behind a checkpoint (None: from the first event of all); `upto` is
        the commit position of the last. Returns the next checkpoint.

        Raises MirrorMoved, OtherEvent, psycopg.Error.
        """
        before = after or Checkpoint()
        values = (
            None if after is None else after.commit_position,
            upto,
            _Array(pg.array(self._new_event, list(map(_new_event, events)))),
            _Array(pg.digests(list(map(digest_of, events)))),
            times_of(events),
            _Array(pg.array(self._new_once, _new_onces(events, onces))),
        )
        try:
            try:
                await self._conn.execute(_COPY, (*values, True))
            except psycopg.errors.ProgramLimitExceeded:
                # the server's notification queue is full: some listener never reads
                await self._conn.execute(_COPY, (*values, False))
        except psycopg.DatabaseError as error:
            if error.sqlstate == MIRROR_MOVED:
                raise MirrorMoved from error
            if error.sqlstate == OTHER_EVENT:
                raise OtherEvent(int(error.diag.message_detail or 0)) from error
            raise
        return Checkpoint(
            upto,
            before.position + len(events),
            events[-1].event_id if events else before.event_id,
        )


def _new_event(event: Copied) -> bytes:
    cause = pg.cause(
        *cause_in_bytes(event.actor, event.correlation_id, event.causation_id, event.traceparent)
    )
    time = pg.TIME_NULL if event.occurred_at is None else pg.TIME + encoded_time(event.occurred_at)
    return pg.new_event(
        event.event_id.bytes,
        event.stream_id.bytes,
        event.version,
        event.name.encode(),
        event.payload,
        cause + time,
    )


def _new_onces(events: Sequence[Copied], onces: Sequence[CopiedOnce]) -> list[bytes]:
    """The keys, each with the number of its append's last event; of one that comes twice, the
    last."""
    numbers = {(event.stream_id, event.version): n for n, event in enumerate(events, 1)}
    latest = {once.key: once for once in onces}
    return [
        pg.new_once(
            once.key,
            once.fingerprint,
            msgspec.json.encode(once.result_ids).decode(),
            once.expires_at,
            numbers[once.stream_id, once.version],
        )
        for once in latest.values()
    ]
