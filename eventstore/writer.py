"""The group-commit writer: all appends that wait in this process go to the database as one statement.

An idle writer sends at once; while a statement runs, appends gather, and go together in the next. See docs/log.md.
"""

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from eventstore import pgarrays as pg
from eventstore.chain import digest, moment
from eventstore.log import AlreadyDone, Appended, Done, LogUnavailable, Metadata, Once, VersionConflict
from eventstore.prepared import PreparedStatement
from eventstore.uuid7 import uuid7

__all__ = ["GroupCommitWriter", "LogUnavailable", "Pending"]

MAX_BATCH = 512
"""Appends per statement: beyond this a larger batch gains nothing and its callers wait longer."""

PATIENCE_SECONDS = 3.0
"""How long an append waits for a lost database before its caller is told."""

UNEXPLAINED_REFUSALS = 5
"""How often a refused batch is sent again though none of its appends is found to have lost."""

_CONNECTION = {
    "application_name": "ludoteca writer",
    # Statements are planned once per connection, perhaps while the log is tiny: none may be one that reads all of it.
    "options": "-c role=ludoteca_app -c plan_cache_mode=force_generic_plan -c enable_seqscan=off",
    "connect_timeout": "2",
    # Over a network: a server that vanished without a word is noticed in seconds, not in hours.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


class Row(NamedTuple):
    """An event on its way: its place, its digest, and all of it in wire format."""

    event_id: UUID
    stream_id: UUID
    version: int
    digest: bytes
    wire: bytes


class Pending:
    """One append on its way: its rows, what it expects, and the future its caller waits for."""

    __slots__ = ("checks", "deadline", "future", "metadata", "once", "rows", "uncertain")

    def __init__(self, metadata: Metadata, once: Once | None) -> None:
        self.metadata, self.once = metadata, once
        self.rows: list[Row] = []
        self.checks: list[tuple[UUID, int]] = []
        loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Appended] = loop.create_future()
        self.deadline = loop.time() + PATIENCE_SECONDS
        self.uncertain = False  # an earlier try may have committed: its connection was lost

    def expect(self, stream_id: UUID, version: int) -> None:
        self.checks.append((stream_id, version))

    def add(self, stream_id: UUID, version: int, name: str, payload: bytes) -> None:
        m, event_id = self.metadata, uuid7()
        stored = (event_id, stream_id, version, name, payload)
        why = (m.actor, m.correlation_id, m.causation_id, m.traceparent)
        self.rows.append(Row(event_id, stream_id, version, digest(*stored, *why), pg.new_event(*stored, *why)))

    def claims(self) -> Iterable[UUID]:
        """What no other append of the same batch may touch."""
        for stream_id, _ in self.checks:
            yield stream_id
        if self.once is not None:
            yield self.once.key

    def landed(self, first: int, at: datetime) -> None:
        if not self.future.done():
            self.future.set_result(Appended(first, first + len(self.rows) - 1, at, [row.event_id for row in self.rows]))

    def failed(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


_APPEND = (
    "SELECT base, at FROM log.append($1::log.new_event[], $2::bytea[], $3::uuid[], $4::bigint[], $5::log.new_once[])"
)
_TYPES = "SELECT 'log.new_event'::regtype::oid, 'log.new_once'::regtype::oid"

_CONFLICTS = """
SELECT c.n FROM unnest(%s::uuid[], %s::bigint[], %s::int[]) AS c(stream_id, version, n)
WHERE c.version <> coalesce(
    (SELECT e.version FROM log.events e WHERE e.stream_id = c.stream_id ORDER BY e.version DESC LIMIT 1), 0)"""
DONE = "SELECT key, fingerprint, refs, position, answer FROM log.once WHERE key = ANY (%s)"


def done_of(row: TupleRow) -> Done:
    """A row of DONE."""
    return Done(row[0], row[1], msgspec.json.decode(row[2], type=dict[str, str]), row[3], row[4])


def _arguments(batch: Sequence[Pending], new_event: int, new_once: int) -> list[bytes]:
    """The batch as the parameters of log.append, in order; the types of its arrays by their object ids."""
    rows = [row for pending in batch for row in pending.rows]
    checks = [check for pending in batch for check in pending.checks if check[1] > 0]
    onces, last = [], 0
    for pending in batch:
        last += len(pending.rows)
        if (once := pending.once) is not None:
            refs = msgspec.json.encode(once.refs).decode()
            onces.append(pg.new_once(once.key, once.fingerprint, refs, once.expires_at, last))
    return [
        pg.array(new_event, [row.wire for row in rows]),
        pg.byteas([row.digest for row in rows]),
        pg.uuids([stream_id for stream_id, _ in checks]),
        pg.bigints([version for _, version in checks]),
        pg.array(new_once, onces),
    ]


class GroupCommitWriter:
    """One writer per process, with a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._conn: psycopg.AsyncConnection | None = None
        self._cursor: psycopg.AsyncCursor | None = None
        self._statement: PreparedStatement | None = None
        self._types: tuple[int, int] = (0, 0)  # object ids of log.new_event and log.new_once, in this database
        self._waiting: list[Pending] = []
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def append(self, pending: Pending) -> Appended:
        """Queue an append and wait for its outcome. Raises as Log.append."""
        if self._closed:
            raise LogUnavailable("the log is closed")
        self._waiting.append(pending)
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="log-writer")
        return await pending.future

    async def close(self) -> None:
        """Take no more, finish what waits (for a bounded time), then let go of the connection."""
        self._closed = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=2 * PATIENCE_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._disconnect()

    async def _run(self) -> None:
        batch: list[Pending] = []
        try:
            while self._waiting or not self._closed:
                if not self._waiting:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                batch = self._take()
                try:
                    await self._send(batch)
                except Exception as error:  # the writer outlives whatever one batch meets; its callers are told
                    for pending in batch:
                        pending.failed(error)
        finally:  # stopped in the middle: nobody must wait for ever
            for pending in (*batch, *self._waiting):
                pending.failed(LogUnavailable("the log was closed"))
            self._waiting = []

    def _take(self) -> list[Pending]:
        """The next batch: as many as wait, but no stream and no key twice."""
        batch: list[Pending] = []
        left: list[Pending] = []
        taken: set[UUID] = set()
        for pending in itertools.islice(self._waiting, MAX_BATCH):
            claims = set(pending.claims())
            (left if claims & taken else batch).append(pending)
            taken |= claims  # also of those left: a stream's appends stay in order
        self._waiting = left + self._waiting[MAX_BATCH:]
        return batch

    async def _send(self, batch: list[Pending]) -> None:
        """Send a batch until its outcome is known. Raises LogUnavailable when patience ends."""
        deadline = min(pending.deadline for pending in batch)
        while batch := [pending for pending in batch if not pending.future.done()]:  # some callers may have gone
            try:
                cursor = await self._connected()
                await self._execute(cursor, await self._settle(cursor, batch))
                return
            except psycopg.OperationalError as error:
                await self._disconnect()
                for pending in batch:
                    pending.uncertain = True
                if asyncio.get_running_loop().time() > deadline:
                    raise LogUnavailable("the log's database cannot be reached") from error
                await asyncio.sleep(0.05)
            except Exception as error:
                if len(batch) == 1:
                    batch[0].failed(error)
                    return
                # One append holds what the database refuses (a NUL in a text, say): find it, keep the others.
                for pending in batch:
                    pending.uncertain = True
                for pending in batch:
                    await self._send([pending])
                return

    async def _execute(self, cursor: psycopg.AsyncCursor, batch: list[Pending]) -> None:
        unexplained = 0
        while batch:
            try:
                base, at = await self._append(batch)
            except psycopg.errors.UniqueViolation:
                left = await self._without_losers(cursor, batch)
                # Nobody lost: the stream that had not come so far has now. More than once, something else is wrong.
                unexplained = unexplained + 1 if len(left) == len(batch) else 0
                if unexplained > UNEXPLAINED_REFUSALS:
                    raise
                batch = left
                continue
            for pending in batch:
                pending.landed(base + 1, at)
                base += len(pending.rows)
            return

    async def _append(self, batch: list[Pending]) -> tuple[int, datetime]:
        """The position before the first event, and the time of all. Raises psycopg.Error."""
        assert self._statement is not None
        result = await self._statement.call(_arguments(batch, *self._types))
        base, at = result.get_value(0, 0), result.get_value(0, 1)
        assert base is not None
        assert at is not None
        return int.from_bytes(base), moment(int.from_bytes(at))

    async def _without_losers(self, cursor: psycopg.AsyncCursor, batch: list[Pending]) -> list[Pending]:
        """Tell those appends of a refused batch that lost: their stream has moved on, or their key is known."""
        # Unless it is their own earlier try that won, whose connection was lost: it did commit after all.
        batch = await self._settle(cursor, batch)
        keys = [pending.once.key for pending in batch if pending.once is not None]
        checks = [(*check, n) for n, pending in enumerate(batch) for check in pending.checks]
        await cursor.execute(DONE, (keys,))
        known = {row[0]: done_of(row) for row in await cursor.fetchall()}
        await cursor.execute(_CONFLICTS, ([c[0] for c in checks], [c[1] for c in checks], [c[2] for c in checks]))
        conflicts = {n for (n,) in await cursor.fetchall()}
        for n, pending in enumerate(batch):
            if pending.once is not None and pending.once.key in known:
                pending.failed(AlreadyDone(known[pending.once.key]))
            elif n in conflicts:
                pending.failed(VersionConflict([stream_id for stream_id, _ in pending.checks]))
        return [pending for pending in batch if not pending.future.done()]

    async def _settle(self, cursor: psycopg.AsyncCursor, batch: list[Pending]) -> list[Pending]:
        """Tell those that committed before the connection was lost, by their event ids; returns the others."""
        if not any(pending.uncertain for pending in batch):
            return batch
        firsts = [pending.rows[0] for pending in batch]
        await cursor.execute(
            "SELECT e.event_id, e.position, e.recorded_at FROM unnest(%s::uuid[], %s::bigint[]) AS u(s, v)"
            " JOIN log.events e ON e.stream_id = u.s AND e.version = u.v",
            ([row.stream_id for row in firsts], [row.version for row in firsts]),
        )
        found = {event_id: (position, at) for event_id, position, at in await cursor.fetchall()}
        for pending in batch:
            if pending.rows[0].event_id in found:
                pending.landed(*found[pending.rows[0].event_id])
        return [pending for pending in batch if pending.rows[0].event_id not in found]

    async def _connected(self) -> psycopg.AsyncCursor:
        if self._cursor is None or self._conn is None or self._conn.closed:
            await self._disconnect()
            conninfo = make_conninfo(self._url, **_CONNECTION)
            self._conn = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
            self._statement = await PreparedStatement.prepare(self._conn, "append", _APPEND)
            cursor = self._conn.cursor(binary=True)
            self._types = await (await cursor.execute(_TYPES)).fetchone() or (0, 0)
            self._cursor = cursor
        return self._cursor

    async def _disconnect(self) -> None:
        conn, self._conn, self._cursor = self._conn, None, None
        if conn is not None:
            await conn.close()
