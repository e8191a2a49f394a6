"""The group-commit writer: all appends that wait in this process go to the database as one statement.

An idle writer sends at once; while a statement runs, appends gather, and go together in the next. See docs/log.md.
"""

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg
from psycopg.conninfo import make_conninfo

from eventstore import pgarrays as pg
from eventstore.chain import digest
from eventstore.log import AlreadyDone, Appended, Done, LogUnavailable, Metadata, Once, VersionConflict
from eventstore.uuid7 import uuid7

__all__ = ["GroupCommitWriter", "LogUnavailable", "Pending"]

MAX_BATCH = 512
"""Appends per statement: beyond this a larger batch gains nothing and its callers wait longer."""

PATIENCE_SECONDS = 3.0
"""How long an append waits for a lost database before its caller is told."""


_CONNECTION = {
    "application_name": "ludoteca writer",
    "options": "-c role=ludoteca_app",
    "connect_timeout": "2",
    # Over a network: a server that vanished without a word is noticed in seconds, not in hours.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}

Row = tuple[UUID, UUID, int, str, bytes, bytes, str, UUID | None, UUID | None, str | None]


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
        tail = (m.actor, m.correlation_id, m.causation_id, m.traceparent)
        self.rows.append(
            (
                event_id,
                stream_id,
                version,
                name,
                payload,
                digest(event_id, stream_id, version, name, payload, *tail),
                *tail,
            )
        )

    def claims(self) -> Iterable[UUID]:
        """What no other append of the same batch may touch."""
        for stream_id, _ in self.checks:
            yield stream_id
        if self.once is not None:
            yield self.once.key

    def landed(self, first: int, at: datetime) -> None:
        if not self.future.done():
            self.future.set_result(Appended(first, first + len(self.rows) - 1, at, [row[0] for row in self.rows]))

    def failed(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


_APPEND = f"SELECT * FROM log.append({', '.join(['%s'] * 20)})"


def _arguments(batch: Sequence[Pending], careful: bool) -> list[object]:
    """The batch as the parameters of log.append, in order."""
    ids, streams, versions, names, payloads, digests, actors, correlations, causations, traces = zip(
        *(row for pending in batch for row in pending.rows), strict=True
    )
    numbered = list(enumerate(batch, 1))
    checks = [(*check, no) for no, pending in numbered for check in pending.checks if careful or check[1] > 0]
    onces = [(pending.once, no) for no, pending in numbered if pending.once is not None]
    return [
        careful,
        pg.uuids(ids),
        pg.uuids(streams),
        pg.bigints(versions),
        pg.texts(names),
        pg.byteas(payloads),
        pg.byteas(digests),
        pg.texts(actors),
        pg.uuids(correlations),
        pg.uuids(causations),
        pg.texts(traces),
        pg.ints([no for no, pending in numbered for _ in pending.rows]),
        pg.uuids([stream_id for stream_id, _, _ in checks]),
        pg.bigints([version for _, version, _ in checks]),
        pg.ints([no for _, _, no in checks]),
        pg.uuids([once.key for once, _ in onces]),
        pg.byteas([once.fingerprint for once, _ in onces]),
        pg.texts([msgspec.json.encode(once.refs).decode() for once, _ in onces]),
        pg.times([once.expires_at for once, _ in onces]),
        pg.ints([no for _, no in onces]),
    ]


class GroupCommitWriter:
    """One writer per process, with a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._conn: psycopg.AsyncConnection | None = None
        self._cursor: psycopg.AsyncCursor | None = None
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
                if any(pending.uncertain for pending in batch):
                    batch = await self._settle(cursor, batch)
                if batch:
                    await self._execute(cursor, batch)
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
        try:
            await cursor.execute(_APPEND, _arguments(batch, careful=False), prepare=True)
        except psycopg.errors.UniqueViolation:
            await cursor.execute(_APPEND, _arguments(batch, careful=True), prepare=True)
        row = await cursor.fetchone()
        assert row is not None
        base, at, conflicts, repeats = row
        position = base + 1
        for no, pending in enumerate(batch, 1):
            if no in conflicts:
                await self._conflicted(cursor, pending)
            elif no in repeats:
                await self._repeated(cursor, pending)
            else:
                pending.landed(position, at)
                position += len(pending.rows)

    async def _conflicted(self, cursor: psycopg.AsyncCursor, pending: Pending) -> None:
        """Refused for a version: unless the try before, whose connection was lost, did commit after all."""
        if pending.uncertain and not await self._settle(cursor, [pending]):
            return
        pending.failed(VersionConflict([stream_id for stream_id, _ in pending.checks]))

    async def _repeated(self, cursor: psycopg.AsyncCursor, pending: Pending) -> None:
        assert pending.once is not None
        if pending.uncertain and not await self._settle(cursor, [pending]):
            return
        await cursor.execute(
            "SELECT key, fingerprint, refs, position, answer FROM log.once WHERE key = %s", (pending.once.key,)
        )
        row = await cursor.fetchone()
        assert row is not None
        refs = msgspec.json.decode(row[2], type=dict[str, str])
        pending.failed(AlreadyDone(Done(row[0], row[1], refs, row[3], row[4])))

    async def _settle(self, cursor: psycopg.AsyncCursor, batch: list[Pending]) -> list[Pending]:
        """Tell those that committed before the connection was lost, by their event ids; returns the others."""
        firsts = [p.rows[0] for p in batch]
        await cursor.execute(
            "SELECT e.event_id, e.position, e.recorded_at FROM unnest(%s::uuid[], %s::bigint[]) AS u(s, v)"
            " JOIN log.events e ON e.stream_id = u.s AND e.version = u.v",
            ([row[1] for row in firsts], [row[2] for row in firsts]),
        )
        found = {event_id: (position, at) for event_id, position, at in await cursor.fetchall()}
        for pending in batch:
            if pending.rows[0][0] in found:
                pending.landed(*found[pending.rows[0][0]])
        return [p for p in batch if p.rows[0][0] not in found]

    async def _connected(self) -> psycopg.AsyncCursor:
        if self._cursor is None or self._conn is None or self._conn.closed:
            conninfo = make_conninfo(self._url, **_CONNECTION)
            self._conn = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
            pg.register(self._conn)
            self._cursor = self._conn.cursor(binary=True)
        return self._cursor

    async def _disconnect(self) -> None:
        conn, self._conn, self._cursor = self._conn, None, None
        if conn is not None:
            await conn.close()
