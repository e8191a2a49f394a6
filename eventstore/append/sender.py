"""Sends batches of appends to log.append_v4, and finds out how each append ended, whatever happens on the way."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Any

import msgspec
import psycopg
from psycopg.rows import TupleRow

from eventstore.append.pending import Pending, arguments
from eventstore.append.pipeline import Pipeline
from eventstore.chain import encoded_time, moment
from eventstore.database.connections import Watch
from eventstore.database.postgres import connect_async, is_away, kept_once_set_up
from eventstore.history import History
from eventstore.log import AlreadyDone, ClocksDiffer, Done, LogUnavailable, VersionConflict, WrongKind

log = logging.getLogger(__name__)

UNEXPLAINED_REFUSALS = 5
"""How often a refused batch is sent again though none of its appends is found to have lost."""

TAIL_WAIT_MS = 1000
"""How long a batch waits at a time for the end of the log, which another writer or an open transaction holds."""

STATEMENT_MS = 8000
"""How long a batch may take in all: less than its answer is waited for, so that the server ends it, and knows it."""

_HELD_UP = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)

CLOCKS_DIFFER = "LT001"
"""What log.append_v4 raises when the clock there and ours disagree."""

SKEW_LOG_SECONDS = 10.0
"""How often it is logged that they do."""

_SESSION = {
    # Statements are planned once per connection, perhaps while the log is tiny: none may be one that reads all of it.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "lock_timeout": f"{TAIL_WAIT_MS}",
    "statement_timeout": f"{STATEMENT_MS}",
}

# As one value, a record: SELECT … FROM would have the server keep it in a table for a moment.
_APPEND = (
    "SELECT log.append_v4($1::log.new_event_v4[], $2::bytea[], $3::uuid[], $4::bigint[], $5::text[], $6::uuid[],"
    " $7::bigint[], $8::log.new_once[], $9::boolean, $10::timestamptz, $11::timestamptz)"
)
_answer = Struct(">I IIq IIq").unpack  # number of fields; of each (bigint, timestamptz) its type, size and value
_DURABLE = """
SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') IN ('off', 'local')"""
"""Acknowledged means safe on disk, whatever the database's own setting; a stronger one stays."""
_TYPES = "SELECT 'log.new_event_v4'::regtype::oid, 'log.new_once'::regtype::oid"

_FOUND = """
SELECT e.event_id, e.position, e.recorded_at FROM unnest(%s::uuid[], %s::bigint[]) AS u(s, v)
JOIN log.events e ON e.stream_id = u.s AND e.version = u.v"""
_CONFLICTS = """
SELECT c.n FROM unnest(%s::uuid[], %s::bigint[], %s::int[]) AS c(stream_id, version, n)
WHERE c.version <> coalesce(
    (SELECT e.version FROM log.events e WHERE e.stream_id = c.stream_id ORDER BY e.version DESC LIMIT 1), 0)"""
_FOREIGN = """
SELECT c.n FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::int[]) AS c(stream_id, version, kind, n)
JOIN log.events e ON e.stream_id = c.stream_id AND e.version = c.version
JOIN log.event_kinds k ON k.name = e.name WHERE k.kind <> c.kind"""
_REGISTER = """
INSERT INTO log.event_kinds (name, kind) SELECT * FROM unnest(%s::text[], %s::text[]) AS u(name, kind)
WHERE NOT EXISTS (SELECT FROM log.event_kinds k WHERE k.name = u.name) ON CONFLICT DO NOTHING"""
DONE = "SELECT key, fingerprint, refs, position, answer FROM log.once WHERE key = ANY (%s)"


def done_of(row: TupleRow) -> Done:
    """A row of DONE."""
    return Done(row[0], row[1], msgspec.json.decode(row[2], type=dict[str, str]), row[3], row[4])


def _unavailable(error: Exception) -> LogUnavailable:
    if isinstance(error, _HELD_UP):
        return LogUnavailable("the log did not take it in time: somebody else is writing, or holds its end")
    return LogUnavailable("the log's database cannot be reached")


def _decided_here(batch: list[Pending]) -> list[Pending]:
    """Refuse those that were decided on another history of the log than it has now; returns the others."""
    if not any(pending.void for pending in batch):
        return batch
    for pending in batch:
        if pending.void:
            pending.failed(VersionConflict([stream_id for stream_id, *_ in pending.checks]))
    return [pending for pending in batch if not pending.void]


class Sender:
    """Batches go by one connection, in order; questions about those that failed go by another, opened when needed.

    Several batches may be on their way as long as no two of them touch the same stream or key.
    """

    def __init__(
        self,
        url: str,
        kinds: Mapping[str, str],
        history: History,
        clock_tolerance: timedelta | None,
        watch: Watch | None = None,
    ) -> None:
        """`kinds`: the kind of stream of each wire name that this program writes or reads; `clock_tolerance`: how far
        the database's clock may be from the times of the appends (None: as far as it likes). Under a `watch` callers
        are told at the second try that the database is away; otherwise they have patience."""
        self._kinds, self._tolerance, self._watch = kinds, clock_tolerance, watch
        self._history = history
        self._url = url
        self._skew_logged_at = float("-inf")
        self.away: Exception | None = None
        """Why the last batch was not taken in time, if it was not."""
        self._connecting = asyncio.Lock()
        self._pipeline: Pipeline | None = None
        self._inquiries: psycopg.AsyncConnection | None = None
        self._types: tuple[int, int] = (0, 0)  # object ids of log.new_event_v4 and log.new_once, here

    async def send(self, batch: list[Pending]) -> None:
        """Send a batch until the outcome of each append is known, or its patience ends: LogUnavailable for that one."""
        while batch := [pending for pending in batch if not pending.future.done()]:  # some callers may have gone
            try:
                await self._execute(_decided_here(await self._settle(batch)))
                self.away = None
                return
            except Exception as error:
                tried_before = [pending for pending in batch if pending.uncertain]
                for pending in batch:
                    pending.uncertain = True
                if is_away(error):
                    if self._watch is None or isinstance(error, _HELD_UP):
                        self._lose_patience(batch, error)
                    else:  # somebody waits for an HTTP answer; but one connection says nothing of the next
                        self._lose_patience(tried_before, error, at_once=True)
                    await asyncio.sleep(0.05)
                elif len(batch) == 1:
                    batch[0].failed(error)
                else:  # one append holds what the database refuses (a NUL in a text, say): find it, keep the others
                    for pending in batch:
                        await self.send([pending])

    def _lose_patience(self, batch: Sequence[Pending], error: Exception, *, at_once: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        for pending in batch:
            if at_once or now > pending.deadline:
                self.away = _unavailable(error)
                pending.failed(self.away)

    async def prove(self) -> None:
        """Go the way of a batch, and append nothing. Raises psycopg.Error if none would be taken."""
        await self._connected()
        assert self._pipeline is not None
        await self._pipeline.prove()

    async def close(self) -> None:
        """Let go of the connections."""
        if self._pipeline is not None:
            await self._pipeline.close()
        if self._inquiries is not None:
            await self._inquiries.close()

    async def _execute(self, batch: list[Pending]) -> None:
        unexplained, wake = 0, True
        while batch:
            try:
                if self._pipeline is None or self._pipeline.lost or not self._history.knows(self._pipeline.conn):
                    await self._connected()
                    batch = _decided_here(batch)
                    continue
                base, at = await self._append(self._pipeline, batch, wake=wake)
            except psycopg.errors.ProgramLimitExceeded as error:
                if not wake:
                    raise
                # The server's notification queue is full: somebody listens and never reads. Listeners also poll.
                log.warning("appending without waking listeners: %s", error)
                wake = False
                continue
            except psycopg.errors.UniqueViolation:
                left = await self._without_losers(batch)
                # Nobody lost: the stream that had not come so far has now. More than once, something else is wrong.
                unexplained = unexplained + 1 if len(left) == len(batch) else 0
                if unexplained > UNEXPLAINED_REFUSALS:
                    raise
                batch = left
                continue
            except psycopg.DatabaseError as error:
                if error.sqlstate != CLOCKS_DIFFER:
                    raise
                batch = self._without_misdated(batch, error)
                continue
            for pending in batch:
                pending.landed(base + 1, at)
                base += len(pending.event_ids)
            self._history.saw(base, batch[-1].event_ids[-1], self._history.generation)
            return

    async def _append(self, pipeline: Pipeline, batch: list[Pending], *, wake: bool) -> tuple[int, datetime]:
        """The position before the first event, and the time of all. Raises psycopg.Error."""
        wakes = b"\x01" if wake else b"\x00"
        result = await pipeline.call([*arguments(batch, *self._types), wakes, *self._bounds(batch)])
        if not self._history.knows(pipeline.conn):
            raise psycopg.OperationalError("the log went back meanwhile: what is there now must be asked")
        record = result.get_value(0, 0)
        assert record is not None
        _, _, _, base, _, _, at = _answer(record)
        return base, moment(at)

    def _bounds(self, batch: list[Pending]) -> tuple[bytes | None, bytes | None]:
        """What the database's clock may say at the earliest and at the latest."""
        if self._tolerance is None:
            return None, None
        times = [pending.occurred_at for pending in batch]
        return encoded_time(max(times) - self._tolerance), encoded_time(min(times) + self._tolerance)

    def _without_misdated(self, batch: list[Pending], error: psycopg.DatabaseError) -> list[Pending]:
        """Tell those appends of a refused batch whose time the database's clock contradicts."""
        assert self._tolerance is not None
        there = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(error.diag.message_detail or 0))
        for pending in batch:
            ahead = pending.occurred_at - there
            if abs(ahead) > self._tolerance:
                differ = ClocksDiffer(ahead.total_seconds())
                pending.failed(differ)
                if (now := asyncio.get_running_loop().time()) > self._skew_logged_at + SKEW_LOG_SECONDS:
                    self._skew_logged_at = now
                    log.error("an append was refused: %s", differ)
        return [pending for pending in batch if not pending.future.done()]

    async def _without_losers(self, batch: list[Pending]) -> list[Pending]:
        """Tell those appends of a refused batch that lost: their stream has moved on, or their key is known."""
        # Unless it is their own earlier try that won, whose connection was lost: it did commit after all.
        batch = await self._settle(batch)
        keys = [pending.once.key for pending in batch if pending.once is not None]
        kinds = [(*check, n) for n, pending in enumerate(batch) for check in pending.checks]
        checks = [(stream_id, version, n) for stream_id, version, _, n in kinds]
        checks += [(r.stream_id, r.version, n) for n, pending in enumerate(batch) for r in pending.reads]
        known = {row[0]: done_of(row) for row in await self._ask(DONE, keys)}
        conflicts = {n for (n,) in await self._ask(_CONFLICTS, *map(list, zip(*checks, strict=True)))}
        foreign = {n for (n,) in await self._ask(_FOREIGN, *map(list, zip(*kinds, strict=True)))}
        for n, pending in enumerate(batch):
            if pending.once is not None and pending.once.key in known:
                pending.failed(AlreadyDone(known[pending.once.key]))
            elif n in foreign:
                pending.failed(WrongKind(f"a stream of another kind: {', '.join(f'{s}' for s, *_ in pending.checks)}"))
            elif n in conflicts:
                pending.failed(VersionConflict([stream_id for stream_id, *_ in pending.checks]))
        return [pending for pending in batch if not pending.future.done()]

    async def _settle(self, batch: list[Pending]) -> list[Pending]:
        """Tell those that committed before the connection was lost, by their event ids; returns the others."""
        if not any(pending.uncertain for pending in batch):
            return batch
        firsts = [pending.first for pending in batch]
        rows = await self._ask(_FOUND, [stream for stream, _ in firsts], [version for _, version in firsts])
        found = {event_id: (position, at) for event_id, position, at in rows}
        for pending in batch:
            if pending.event_ids[0] in found:
                pending.landed(*found[pending.event_ids[0]])
        return [pending for pending in batch if pending.event_ids[0] not in found]

    # -- connections ---------------------------------------------------------------------------------------------------

    async def _connected(self) -> None:
        async with self._connecting:
            pipeline = self._pipeline
            if pipeline is not None and not pipeline.lost and self._history.knows(pipeline.conn):
                return  # another batch was first
            if self._pipeline is not None:
                await self._pipeline.close()
            conn = await connect_async(self._url, "ludoteca writer", watch=self._watch, **_SESSION)
            async with kept_once_set_up(conn):
                await self._history.check(conn)
                await conn.execute(_DURABLE)
                self._types = await (await conn.execute(_TYPES)).fetchone() or (0, 0)
                await conn.execute(_REGISTER, (list(self._kinds), list(self._kinds.values())))
                self._pipeline = await Pipeline.open(conn, _APPEND)

    async def _ask(self, query: str, *values: Sequence[object]) -> list[tuple[Any, ...]]:
        """Rows of a query about what is committed."""
        async with self._connecting:
            conn = self._inquiries
            if conn is None or conn.closed or not self._history.knows(conn):
                if conn is not None:
                    await conn.close()
                conn = await connect_async(self._url, "ludoteca writer", watch=self._watch, **_SESSION)
                async with kept_once_set_up(conn):
                    await self._history.check(conn)
                self._inquiries = conn
            return await (await conn.cursor(binary=True).execute(query, values)).fetchall()
