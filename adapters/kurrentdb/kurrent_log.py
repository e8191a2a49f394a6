"""The log on KurrentDB: it decides about appends, and PostgreSQL has a mirror of it.

An append goes to KurrentDB, which checks the versions of its streams, and is acknowledged once the
mirror has it: only then are its positions known. So the mirror has every acknowledged event, and
all reads are the mirror's. A decision on a state that is older than KurrentDB's is refused there;
its caller learns of that once the mirror has what it lost against.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import NamedTuple, NoReturn, Self
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from adapters.kurrentdb.client import Kurrentdb, WrongRevision
from adapters.kurrentdb.mirror_state import require_going
from adapters.kurrentdb.new_append import NewAppend
from adapters.kurrentdb.wire import CopiedOnce, once_name, read, stream_id_of, stream_name
from eventstore.append.encoding import Encoded
from eventstore.codec import Codec
from eventstore.database.postgres import AWAY
from eventstore.database.watch import DatabaseWatch
from eventstore.flight import Flight
from eventstore.gathering import Gatherer
from eventstore.history import History, HistoryChanged
from eventstore.log import (
    CLOCK_TOLERANCE,
    AlreadyDone,
    Appended,
    ClocksDiffer,
    IdempotencyKey,
    IdempotencyRecord,
    LogUnavailable,
    Metadata,
    StreamAppend,
    StreamRead,
    VersionConflict,
    WrongKind,
    check_appends,
)
from eventstore.postgres_log import EXPIRED, RETRY_SECONDS, PostgresLog
from kit.cancellation import cancellations, stop_if_cancelled
from kit.clock import SYSTEM_CLOCK, Clock

SEND_SECONDS = 1.5
"""How long an append is sent again while KurrentDB is away; the last try may take its own time."""

MIRROR_SECONDS = 5.0
"""How long an append waits for the mirror: longer than the mirror needs to notice that its
subscription has fallen silent."""

LOOK_SECONDS = 1.0
"""How old what is known of PostgreSQL's clock, and of the mirror, may be."""

KNOWN_KINDS = 10_000
"""Streams whose kind is remembered, before all are forgotten."""

PURGED_AT_ONCE = 16

_PLACES = """
SELECT e.stream_id, e.version, e.event_id, e.name, e.position, e.recorded_at
FROM unnest(%s::uuid[], %s::bigint[]) AS u(s, v)
JOIN log.events e ON e.stream_id = u.s AND e.version = u.v
"""
_EXPIRED = f"SELECT key FROM log.once WHERE {EXPIRED}"
_PURGE = f"DELETE FROM log.once WHERE key = ANY (%s) AND {EXPIRED}"


class Place(NamedTuple):
    """An event's place in the mirror."""

    event_id: UUID
    name: str
    position: int
    recorded_at: datetime


class KurrentLog(PostgresLog):
    """The log as one process sees it: PostgreSQL's, to which a mirror copies what KurrentDB has.
    Open with `async with KurrentLog.mirrored(kurrentdb_url, url, codec) as log`.

    Nothing appended here is grouped, and no append goes out before the one that it rests on has
    landed: no flight departs.
    """

    _server: Kurrentdb

    def __init__(
        self,
        url: str,
        codec: Codec,
        pool: AsyncConnectionPool,
        history: History,
        clock: Clock,
        clock_tolerance: timedelta | None,
        watch: DatabaseWatch | None = None,
    ) -> None:
        super().__init__(url, codec, pool, history, clock, clock_tolerance, watch)
        self._places = Gatherer(self._select_places)
        self._kinds: dict[UUID, str] = {}
        history.when_it_changes(self._kinds.clear)
        self._looked_at = float("-inf")
        self._database_time = datetime.fromtimestamp(0, UTC)  # at that moment
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def mirrored(
        cls,
        kurrentdb_url: str,
        url: str,
        codec: Codec,
        *,
        pool_size: int = 8,
        clock: Clock = SYSTEM_CLOCK,
        clock_tolerance: timedelta | None = CLOCK_TOLERANCE,
        watched: bool = False,
        pooler: str = "",
    ) -> AsyncIterator[Self]:
        """As `PostgresLog.open`, with KurrentDB's URL. Neither KurrentDB nor the mirror need be
        there yet. Raises ValueError for a URL that it does not understand."""
        opening = cls.open(
            url,
            codec,
            pool_size=pool_size,
            clock=clock,
            clock_tolerance=clock_tolerance,
            watched=watched,
            pooler=pooler,
        )
        async with Kurrentdb.open(kurrentdb_url) as server, opening as log:
            log._server = server
            try:
                yield log
            finally:
                log._closed = True
                await log._places.close()

    # -- appending ---------------------------------------------------------------------------------

    async def append(
        self,
        streams: Sequence[StreamAppend],
        metadata: Metadata = Metadata(),
        once: IdempotencyKey | None = None,
        reads: Sequence[StreamRead] = (),
        *,
        flight: Flight | None = None,  # noqa: ARG002 - see above
    ) -> Appended:
        """As `Log.append`; also raises MissingKey when a person was forgotten.

        LogUnavailable also when the mirror does not have the append in time: KurrentDB has it.
        """
        check_appends(streams)
        if self._closed:
            raise LogUnavailable("the log is closed")
        occurred_at, seen = self._clock.now(), self.history.mark.position
        try:
            await self._must_be_in_order(occurred_at)
            encoded = await self._encoder.payloads(streams)
            append = NewAppend(encoded, metadata, occurred_at, once, reads)
            if not await self._are_of_their_kinds(encoded):
                await self._lose(append, once)
            try:
                await self._send(append)
            except WrongRevision as refused:
                await self._lose(append, once, refused)
            with self.while_there():
                last = await self._place(append.last, seen)
        except AWAY as error:
            raise LogUnavailable("the log's database cannot be reached") from error
        if last.event_id != append.event_ids[-1]:
            raise LogUnavailable("PostgreSQL does not mirror this KurrentDB")
        first = last.position - len(append.event_ids) + 1
        return Appended(first, last.position, last.recorded_at, append.event_ids)

    async def _send(self, append: NewAppend) -> None:
        """Have KurrentDB take the append, or find that it has. Raises WrongRevision, TooLarge,
        LogUnavailable."""
        until, since = monotonic() + SEND_SECONDS, cancellations()
        while True:
            stop_if_cancelled(since)
            try:
                try:
                    await self._server.append(append.records, append.expected)
                except WrongRevision:
                    # by itself: an earlier try may have been taken, and its answer lost
                    if not await self._was_taken(append):
                        raise
                return
            except LogUnavailable:
                if monotonic() > until:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    async def _was_taken(self, append: NewAppend) -> bool:
        stream_id, version = append.first
        there = await self._server.at(stream_name(stream_id), version - 1)
        return there is not None and there.id == append.event_ids[0]

    async def _lose(
        self, append: NewAppend, once: IdempotencyKey | None, refused: WrongRevision | None = None
    ) -> NoReturn:
        """Tell why an append was refused, once the mirror has it. Raises AlreadyDone,
        VersionConflict, LogUnavailable."""
        if once is not None and (done := await self.done(once.key)) is not None:
            raise AlreadyDone(done)
        for name, revision in (refused.actual if refused else {}).items():
            if revision >= 0 and (stream_id := stream_id_of(name)) is not None:
                await self._place((stream_id, revision + 1))
        there = await self.versions(list(append.versions))
        expected = append.versions.items()
        moved = [i for (i, version), now in zip(expected, there, strict=True) if version != now]
        raise VersionConflict(append.stream_ids, moved)

    async def _are_of_their_kinds(self, encoded: Sequence[Encoded]) -> bool:
        """Whether the mirror has the streams at their versions. Raises WrongKind."""
        unknown = [
            (stream.stream_id, stream.expected_version)
            for stream, _, _ in encoded
            if stream.expected_version and stream.stream_id not in self._kinds
        ]
        if unknown:
            found = await self._places.get(unknown)
            if any(wanted not in found for wanted in unknown):
                return False
            self._remember({i: self.codec.kinds.get(found[i, v].name, "") for i, v in unknown})
        for stream, kind, _ in encoded:
            known = self._kinds.get(stream.stream_id) if stream.expected_version else None
            if known and known != kind:  # an event that this program does not know is let pass
                raise WrongKind(f"stream {stream.stream_id} is of kind {known}")
        return True

    def _remember(self, kinds: dict[UUID, str]) -> None:
        if len(self._kinds) > KNOWN_KINDS:
            self._kinds.clear()
        self._kinds.update(kinds)

    async def _must_be_in_order(self, at: datetime) -> None:
        """Raises ClocksDiffer when this process's time is far from PostgreSQL's (KurrentDB tells
        its own only with what it has); LogUnavailable while the mirror has come to a halt."""
        if monotonic() - self._looked_at > LOOK_SECONDS:
            await require_going(self.pool)
            async with self.pool.connection() as conn:
                row = await (await conn.execute("SELECT clock_timestamp()")).fetchone()
            assert row is not None
            self._looked_at, self._database_time = monotonic(), row[0]
        ahead = at - self._database_time - timedelta(seconds=monotonic() - self._looked_at)
        if self._clock_tolerance is not None and abs(ahead) > self._clock_tolerance:
            raise ClocksDiffer(ahead.total_seconds())

    async def prove_writer(self, *, another: bool = False) -> None:
        """As `PostgresLog.prove_writer`: of KurrentDB. The mirror's lag is reported elsewhere."""
        if not another:
            await self._server.prove()
            return
        async with Kurrentdb.open(self._server.url) as server:
            await server.prove()

    # -- the mirror --------------------------------------------------------------------------------

    async def _place(self, wanted: tuple[UUID, int], seen: int = 0) -> Place:
        """Where the mirror has a stream's event, which it lacked when it had come to position
        `seen`. Waits for it. Raises LogUnavailable when that takes too long."""
        since = cancellations()
        try:
            async with asyncio.timeout(MIRROR_SECONDS):
                while True:
                    stop_if_cancelled(since)
                    try:
                        seen = await self.watcher.beyond(seen)
                        if place := (await self._places.get([wanted])).get(wanted):
                            return place
                    except HistoryChanged:
                        seen = 0
                    except AWAY:
                        await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            raise LogUnavailable(
                "KurrentDB has it, but the mirror in PostgreSQL lags behind"
            ) from None

    async def _select_places(self, wanted: list[tuple[UUID, int]]) -> dict[tuple[UUID, int], Place]:
        stream_ids, versions = zip(*wanted, strict=True)
        async with self.pool.connection() as conn:
            generation = self.history.generation
            rows = await (
                await conn.execute(_PLACES, (list(stream_ids), list(versions)))
            ).fetchall()
        places = {(row[0], row[1]): Place(*row[2:]) for row in rows}
        if places:
            last = max(places.values(), key=lambda place: place.position)
            self.history.saw(last.position, last.event_id, generation)
        return places

    # -- once-keys ---------------------------------------------------------------------------------

    async def done(self, key: UUID) -> IdempotencyRecord | None:
        """As `Log.done`. Raises LogUnavailable when KurrentDB has the key, and the mirror has not
        got it yet."""
        found = await super().done(key)
        if found is None and (once := await self._once(key)) is not None:
            await self._place((once.stream_id, once.version))
            found = await super().done(key)
        return found

    async def _once(self, key: UUID) -> CopiedOnce | None:
        recorded = await self._server.last(once_name(key))
        once = None if recorded is None else read(recorded)
        return once if isinstance(once, CopiedOnce) else None

    async def purge_expired(self) -> int:
        """As `Log.purge_expired`: first in KurrentDB, then in the mirror. What KurrentDB does not
        answer to is left for the next call."""
        async with self.pool.connection() as conn:
            rows = await (await conn.execute(_EXPIRED, (self._clock.now(),))).fetchall()
        purged = 0
        for at in range(0, len(rows), PURGED_AT_ONCE):
            keys = [key for (key,) in rows[at : at + PURGED_AT_ONCE]]
            try:
                await asyncio.gather(*map(self._delete_if_expired, keys))
            except LogUnavailable:
                break
            async with self.pool.connection() as conn:
                purged += (await conn.execute(_PURGE, (keys, self._clock.now()))).rowcount
        return purged

    async def _delete_if_expired(self, key: UUID) -> None:
        """Delete a key from KurrentDB, unless it was used again meanwhile."""
        recorded = await self._server.last(once_name(key))
        once = None if recorded is None else read(recorded)
        if recorded is None or not isinstance(once, CopiedOnce):
            return
        if once.expires_at is not None and once.expires_at < self._clock.now():
            with suppress(WrongRevision):
                await self._server.delete(once_name(key), recorded.stream_position)
