"""Sends batches of appends to log.append_v4, and determines the outcome of each append, whatever
fails on the way."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct
from time import monotonic
from typing import Any

import psycopg
from psycopg.pq.abc import PGresult

from eventstore.append.batch import arguments, expectations
from eventstore.append.outcomes import DONE, FOUND, LOST, done_of
from eventstore.append.pending import Pending, doomed
from eventstore.append.pipeline import Pipeline
from eventstore.chain import encoded_time, moment
from eventstore.database.connections import Watch
from eventstore.database.postgres import connect_async, is_away, kept_once_set_up
from eventstore.history import History
from eventstore.log import (
    AlreadyDone,
    ClocksDiffer,
    LogUnavailable,
    VersionConflict,
    WrongKind,
)
from eventstore.precedence import CHANNEL, Precedence
from kit.metrics import APPEND_BATCH_SIZE, APPEND_SECONDS

logger = logging.getLogger(__name__)

UNEXPLAINED_REFUSALS = 5
"""How often a refused batch is sent again although none of its appends is found to have lost."""

TAIL_WAIT_MS = 1000
"""How long a batch waits at a time for the end of the log while another writer or an open
transaction holds it."""

STATEMENT_MS = 8000
"""The most time for a batch: less than the wait for its answer, so that the server ends it and we
learn of that."""

_HELD_UP = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)

LISTEN_SECONDS = 5.0
"""How long requests for precedence are heard after appends that rested on one another."""

CLOCKS_DIFFER = "LT001"
"""The SQLSTATE of log.append_v4 when the server's clock and ours differ too much."""

SKEW_LOG_SECONDS = 10.0
"""The shortest time between two log lines about that."""

_SESSION = {
    # Plans are made once per connection, perhaps while the log is tiny: none may scan the whole
    # table.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "lock_timeout": f"{TAIL_WAIT_MS}",
    "statement_timeout": f"{STATEMENT_MS}",
}

_INQUIRIES = {**_SESSION, "client_connection_check_interval": "1s"}

# Selected as one record: SELECT … FROM would make the server materialise it in a table.
_APPEND = """
SELECT log.append_v4(
    $1::log.new_event_v4[], $2::bytea[], $3::uuid[], $4::bigint[], $5::text[], $6::uuid[],
    $7::bigint[], $8::log.new_once[], $9::boolean, $10::timestamptz, $11::timestamptz
)
"""
# number of fields; type, size and value of each (bigint, timestamptz)
_answer = Struct(">I IIq IIq").unpack
_DURABLE = """
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') IN ('off', 'local')"""
"""Acknowledged means safe on disk, whatever the database's default; a stronger setting stays."""
TYPES = "SELECT 'log.new_event_v4'::regtype::oid, 'log.new_once'::regtype::oid"

_ASK_PRECEDENCE = f"SELECT pg_notify('{CHANNEL}', s) FROM unnest(%s::text[]) AS u(s)"
REGISTER = """
INSERT INTO log.event_kinds (name, kind) SELECT * FROM unnest(%s::text[], %s::text[])
    AS u(name, kind)
WHERE NOT EXISTS (SELECT FROM log.event_kinds k WHERE k.name = u.name) ON CONFLICT DO NOTHING"""


def _unavailable(error: Exception) -> LogUnavailable:
    if isinstance(error, _HELD_UP):
        return LogUnavailable(
            "the log did not take it in time: somebody else is writing, or holds its end"
        )
    return LogUnavailable("the log's database cannot be reached")


def _decided_here(batch: list[Pending]) -> list[Pending]:
    """Refuse the appends that were decided on another history of the log. Returns the others."""
    if not any(pending.void for pending in batch):
        return batch
    for pending in batch:
        if pending.void:
            pending.failed(VersionConflict([stream_id for stream_id, *_ in pending.checks]))
    return [pending for pending in batch if not pending.void]


class Sender:
    """Sends batches over one connection, in order, and asks about failed ones over another, opened
    when needed.

    Several batches may be under way as long as no two of them touch the same stream or key.
    """

    def __init__(
        self,
        url: str,
        kinds: Mapping[str, str],
        history: History,
        clock_tolerance: timedelta | None,
        watch: Watch | None = None,
        precedence: Precedence | None = None,
    ) -> None:
        """`kinds`: the kind of stream of each wire name that this program writes or reads.
        `clock_tolerance`: how far the database's clock may differ from the appends' times (None:
        without limit). With a `watch`, callers learn at the second try that the database is down;
        without one, when their patience ends. `precedence` learns who asks for it."""
        self._kinds = kinds
        self._tolerance = clock_tolerance
        self._watch = watch
        self._precedence = Precedence() if precedence is None else precedence
        self._history = history
        self._url = url
        self._skew_logged_at = float("-inf")
        self._listens_until = 0.0
        self.away: Exception | None = None
        """Why the last batch was not appended in time, if it was not."""
        self._doubtful = False  # whether the last batch failed
        self._proof: asyncio.Future[PGresult] | None = None
        self._connecting = asyncio.Lock()
        self._pipeline: Pipeline | None = None
        self._inquiries: psycopg.AsyncConnection | None = None
        # object ids of log.new_event_v4 and log.new_once, here
        self._types: tuple[int, int] = (0, 0)

    async def send(self, batch: list[Pending]) -> None:
        """Send a batch until each append has an outcome, or its patience ends (LogUnavailable)."""
        while batch := [pending for pending in batch if not pending.is_over]:
            try:
                await self._execute(_decided_here(await self._settle(batch)))
                self.away = None
                self._doubtful = False
                return
            except Exception as error:
                self._doubtful = True
                tried_before = [pending for pending in batch if pending.uncertain]
                if is_away(error) or not isinstance(error, psycopg.Error):
                    for pending in batch:
                        pending.uncertain = True
                if is_away(error):
                    if self._watch is None or isinstance(error, _HELD_UP):
                        self._lose_patience(batch, error)
                    else:
                        # an HTTP request waits; but one lost connection says nothing about the next
                        self._lose_patience(tried_before, error, at_once=True)
                    await asyncio.sleep(0.05)
                elif len(batch) == 1:
                    batch[0].failed(error)
                else:
                    # the database refuses one append (for a NUL in a text, say): find it, keep the
                    # others
                    for pending in batch:
                        await self.send([pending])

    def _lose_patience(
        self, batch: Sequence[Pending], error: Exception, *, at_once: bool = False
    ) -> None:
        now = asyncio.get_running_loop().time()
        for pending in batch:
            if at_once or now > pending.deadline:
                self.away = _unavailable(error)
                pending.failed(self.away)

    async def prove(self, *, in_earnest: bool = False) -> None:
        """Check that a batch would be accepted, by sending an empty one. After a failed batch, or
        with `in_earnest`, by one that is written and then undone, as some failures (a full disk)
        show only then. Raises psycopg.Error if not."""
        await self._connected()
        assert self._pipeline is not None
        if self._proof is None or self._proof.done():  # a proof outlives its first caller
            batch = doomed() if in_earnest or self._doubtful else []
            self._proof = self._pipeline.call(
                [*arguments(batch, *self._types), b"\x00", None, None]
            )
            self._proof.add_done_callback(lambda proof: proof.cancelled() or proof.exception())
        try:
            await asyncio.shield(self._proof)
        except psycopg.errors.UniqueViolation:  # intended: everything else worked
            self._doubtful = False

    async def close(self) -> None:
        if self._pipeline is not None:
            await self._pipeline.close()
        if self._inquiries is not None:
            await self._inquiries.close()

    async def _execute(self, batch: list[Pending]) -> None:
        unexplained, wake = 0, True
        while batch := [each for each in batch if not each.fail_with_predecessor()]:
            try:
                if (
                    self._pipeline is None
                    or self._pipeline.lost
                    or not self._history.knows(self._pipeline.conn)
                ):
                    await self._connected()
                    batch = _decided_here(batch)
                    continue
                base, at = await self._append(self._pipeline, batch, wake=wake)
            except psycopg.errors.ProgramLimitExceeded as error:
                if not wake:
                    raise
                # The server's notification queue is full: some listener never reads. Listeners also
                # poll.
                logger.warning("appending without waking listeners: %s", error)
                wake = False
                continue
            except psycopg.errors.UniqueViolation:
                left = await self._without_losers(batch)
                # Nobody lost: a stream has reached the expected version since. Repeated, something
                # else is wrong.
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
            self._precedence.won(stream_id for each in batch for stream_id, *_ in each.checks)
            for pending in batch:
                pending.landed(base + 1, at)
                base += len(pending.event_ids)
            self._history.saw(base, batch[-1].event_ids[-1], self._history.generation)
            return

    async def _append(
        self, pipeline: Pipeline, batch: list[Pending], *, wake: bool
    ) -> tuple[int, datetime]:
        """Returns the position before the first event, and the time of
        all. Raises psycopg.Error."""
        self._listen_while_busy(pipeline, batch)
        wakes = b"\x01" if wake else b"\x00"
        sent = monotonic()
        result = await pipeline.call([*arguments(batch, *self._types), wakes, *self._bounds(batch)])
        APPEND_SECONDS.observe(monotonic() - sent)
        APPEND_BATCH_SIZE.observe(len(batch))
        if not self._history.knows(pipeline.conn):
            raise psycopg.OperationalError(
                "the log went back meanwhile: what is there now must be asked"
            )
        record = result.get_value(0, 0)
        assert record is not None
        _, _, _, base, _, _, at = _answer(record)
        return base, moment(at)

    def _bounds(self, batch: list[Pending]) -> tuple[bytes | None, bytes | None]:
        """The earliest and the latest acceptable time of the database's clock."""
        if self._tolerance is None:
            return None, None
        times = [pending.occurred_at for pending in batch]
        return encoded_time(max(times) - self._tolerance), encoded_time(
            min(times) + self._tolerance
        )

    def _without_misdated(
        self, batch: list[Pending], error: psycopg.DatabaseError
    ) -> list[Pending]:
        """Fail the appends whose time differs too much from the database's clock. Returns the
        others."""
        assert self._tolerance is not None
        there = datetime.fromtimestamp(0, UTC) + timedelta(
            microseconds=int(error.diag.message_detail or 0)
        )
        for pending in batch:
            ahead = pending.occurred_at - there
            if abs(ahead) > self._tolerance:
                differ = ClocksDiffer(ahead.total_seconds())
                pending.failed(differ)
                if (
                    now := asyncio.get_running_loop().time()
                ) > self._skew_logged_at + SKEW_LOG_SECONDS:
                    self._skew_logged_at = now
                    logger.error("an append was refused: %s", differ)
        return [pending for pending in batch if not pending.is_over]

    async def _without_losers(self, batch: list[Pending]) -> list[Pending]:
        """Fail the appends whose stream has moved on, is of another kind, or whose key is known.
        Returns the others."""
        # First those whose own earlier try won: it did commit before its connection was lost.
        if not (batch := await self._settle(batch)):
            return []
        keys = [pending.once.key for pending in batch if pending.once is not None]
        kinds, reads = expectations(batch)
        checks = [*((stream_id, version, n) for stream_id, version, _, n in kinds), *reads]
        lost = await self._ask(
            LOST, *map(list, zip(*checks, strict=True)), *map(list, zip(*kinds, strict=True)), keys
        )
        moved = [(n, stream_id) for why, n, stream_id in lost if why == "moved"]
        foreign = {n for why, n, _ in lost if why == "foreign"}
        used = [key for why, _, key in lost if why == "known"]
        known = {row[0]: done_of(row) for row in await self._ask(DONE, used)} if used else {}
        if asked := self._precedence.lost(stream_id for _, stream_id in moved):
            await self._ask(_ASK_PRECEDENCE, [str(stream_id) for stream_id in asked])
        for n, pending in enumerate(batch):
            if pending.once is not None and pending.once.key in known:
                pending.failed(AlreadyDone(known[pending.once.key]))
            elif n in foreign:
                pending.failed(
                    WrongKind(
                        f"a stream of another kind: {', '.join(f'{s}' for s, *_ in pending.checks)}"
                    )
                )
            elif of_it := [stream_id for number, stream_id in moved if number == n]:
                streams = [stream_id for stream_id, *_ in pending.checks]
                pending.failed(VersionConflict(streams, of_it))
        return [pending for pending in batch if not pending.is_over]

    async def _settle(self, batch: list[Pending]) -> list[Pending]:
        """Report success for appends that committed before the connection was lost, by their event
        ids. Returns the others."""
        if not any(pending.uncertain for pending in batch):
            return batch
        firsts = [pending.first for pending in batch]
        rows = await self._ask(
            FOUND, [stream for stream, _ in firsts], [version for _, version in firsts]
        )
        found = {event_id: (position, at) for event_id, position, at, _ in rows}
        for pending in batch:
            if pending.event_ids[0] in found:
                pending.landed(*found[pending.event_ids[0]])
        return [pending for pending in batch if pending.event_ids[0] not in found]

    def _listen_while_busy(self, pipeline: Pipeline, batch: list[Pending]) -> None:
        """Hear requests for precedence while appends rest on one another: only then can they keep
        other processes from a stream, and each connection that listens costs the server time at
        every notification."""
        if len(batch) > 1 and sum(bool(each.flight.rests_on) for each in batch) > 1:
            self._listens_until = asyncio.get_running_loop().time() + LISTEN_SECONDS
            pipeline.listen(CHANNEL)
        elif pipeline.listens and asyncio.get_running_loop().time() > self._listens_until:
            pipeline.unlisten()

    def _notified(self, asker: int, payload: str) -> None:
        """A process asks for precedence; `asker` is the process id of its connection's server."""
        ours = self._inquiries is not None and asker == self._inquiries.info.backend_pid
        self._precedence.heard(payload, ours=ours)

    # -- connections -------------------------------------------------------------------------------

    async def _connected(self) -> None:
        async with self._connecting:
            pipeline = self._pipeline
            if pipeline is not None and not pipeline.lost and self._history.knows(pipeline.conn):
                return  # another batch has reconnected
            if self._pipeline is not None:
                await self._pipeline.close()
            conn = await connect_async(self._url, "ludoteca writer", watch=self._watch, **_SESSION)
            async with kept_once_set_up(conn):
                await self._history.check(conn)
                await conn.execute(_DURABLE)
                self._types = await (await conn.execute(TYPES)).fetchone() or (0, 0)
                await conn.execute(REGISTER, (list(self._kinds), list(self._kinds.values())))
                self._pipeline = await Pipeline.open(conn, _APPEND, self._notified)

    async def _ask(self, query: str, *values: Sequence[object]) -> list[tuple[Any, ...]]:
        """Rows of a query about committed data."""
        async with self._connecting:
            conn = self._inquiries
            if conn is None or conn.closed or not self._history.knows(conn):
                if conn is not None:
                    await conn.close()
                conn = await connect_async(
                    self._url, "ludoteca writer", watch=self._watch, **_INQUIRIES
                )
                async with kept_once_set_up(conn):
                    await self._history.check(conn)
                    await conn.execute(_DURABLE)
                self._inquiries = conn
            return await (await conn.cursor(binary=True).execute(query, values)).fetchall()
