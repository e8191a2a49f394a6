"""The log in memory, for tests of code above the log, and for experiments.

It fulfils the contract of `eventstore.log`, but is not durable, and is shared only by the tasks of
one event loop: what must outlive a process, or be read by another, needs `eventstore.postgres_log`.
It has no hash chain, and its history never goes back.
"""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Collection,
    Iterable,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from itertools import islice
from typing import Self
from uuid import UUID

import msgspec

from eventstore.codec import Codec, kind_of_all
from eventstore.flight import Flight
from eventstore.history import History
from eventstore.log import (
    CLOCK_TOLERANCE,
    FIRST_EVENTS,
    MAX_APPEND_BYTES,
    MAX_EVENT_BYTES,
    STREAM_PAGE,
    AlreadyDone,
    Appended,
    ClocksDiffer,
    Envelope,
    IdempotencyKey,
    IdempotencyRecord,
    LogUnavailable,
    Metadata,
    Recorded,
    StreamAppend,
    StreamRead,
    TooLarge,
    VersionConflict,
    WrongKind,
    check_appends,
)
from eventstore.memory import Memory, MemoryKeys, NothingAmended, Row
from eventstore.pages import PAGE_BYTES
from eventstore.precedence import Precedence
from kit.clock import SYSTEM_CLOCK, Clock
from kit.uuid7 import uuid7


class MemoryLog:
    """The log as one process would see it. Open with `async with MemoryLog.open(codec) as log`."""

    def __init__(
        self, codec: Codec, memory: Memory, clock: Clock, clock_tolerance: timedelta | None
    ) -> None:
        self._codec = codec
        self._memory = memory
        self._clock = clock
        self._clock_tolerance = clock_tolerance
        self._closed = False
        self.history = History()
        self.precedence = Precedence()  # all is in one process: nobody asks
        self.keys = MemoryKeys(memory)
        self.amendments = NothingAmended()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        codec: Codec,
        memory: Memory | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        clock_tolerance: timedelta | None = CLOCK_TOLERANCE,
    ) -> AsyncIterator[Self]:
        """Open a log on a shared memory, or on a new one; closed on exit.

        `clock` says when events occur. An append is refused when the memory's clock differs from it
        by more than `clock_tolerance` (None: without limit).
        """
        log = cls(codec, memory or Memory(), clock, clock_tolerance)
        try:
            yield log
        finally:
            log._closed = True
            log._memory.wake()

    async def _turn(self) -> None:
        """Let other tasks run, as a wait for a server would. Raises LogUnavailable once closed."""
        await asyncio.sleep(0)
        if self._closed:
            raise LogUnavailable("the log is closed")

    # -- appending ---------------------------------------------------------------------------------

    async def append(
        self,
        streams: Sequence[StreamAppend],
        metadata: Metadata = Metadata(),
        once: IdempotencyKey | None = None,
        reads: Sequence[StreamRead] = (),
        *,
        flight: Flight | None = None,  # noqa: ARG002 - see below
    ) -> Appended:
        """As `Log.append`; also raises MissingKey for personal fields of a person without a key.

        No `flight` departs: nothing is appended later.
        """
        check_appends(streams)
        occurred_at = self._clock.now()
        await self._turn()
        # No await from here on, so that the checks still hold when the events are added.
        at = self._recording_time(occurred_at)
        rows = self._rows_of(streams, metadata, occurred_at, at)
        if once is not None and once.key in self._memory.done:
            raise AlreadyDone(self._memory.done[once.key][0])
        self._check_versions(streams, reads)
        for row in rows:
            self._memory.rows.append(row)
            self._memory.streams[row[0].stream_id].append(row)
        first, last = rows[0][0], rows[-1][0]
        if once is not None:
            done = IdempotencyRecord(
                once.key, once.fingerprint, dict(once.result_ids), last.position
            )
            self._memory.done[once.key] = done, once.expires_at
        self._saw(rows)
        self._tell({stream.stream_id for stream in streams})
        return Appended(first.position, last.position, at, [env.event_id for env, _ in rows])

    def _recording_time(self, occurred_at: datetime) -> datetime:
        """When an append is recorded: never before the previous one. Raises ClocksDiffer."""
        now = self._memory.clock.now()
        ahead = occurred_at - now
        if self._clock_tolerance is not None and abs(ahead) > self._clock_tolerance:
            raise ClocksDiffer(ahead.total_seconds())
        return max(now, self._memory.rows[-1][0].recorded_at) if self._memory.rows else now

    def _rows_of(
        self,
        streams: Sequence[StreamAppend],
        metadata: Metadata,
        occurred_at: datetime,
        recorded_at: datetime,
    ) -> list[Row]:
        """The events as stored. Raises WrongKind, MissingKey, TooLarge."""
        rows: list[Row] = []
        size = 0
        for stream in streams:
            kind_of_all(stream.events)
            for version, event in enumerate(stream.events, stream.expected_version + 1):
                env = Envelope(
                    position=len(self._memory.rows) + len(rows) + 1,
                    event_id=uuid7(),
                    stream_id=stream.stream_id,
                    version=version,
                    name=event.NAME,  # type: ignore[attr-defined]
                    recorded_at=recorded_at,
                    occurred_at=occurred_at,
                    actor=metadata.actor,
                    correlation_id=metadata.correlation_id,
                    causation_id=metadata.causation_id,
                    traceparent=metadata.traceparent,
                )
                payload = self._encoded(event, stream.stream_id)
                if len(payload) > MAX_EVENT_BYTES:
                    detail = f"{env.name} has {len(payload)} bytes, of {MAX_EVENT_BYTES} at most"
                    raise TooLarge("event_too_large", detail)
                size += len(payload) + len(msgspec.json.encode(env))
                rows.append((env, payload))
        if size > MAX_APPEND_BYTES:
            raise TooLarge(
                "append_too_large", f"more than {MAX_APPEND_BYTES} bytes of events at once"
            )
        return rows

    def _encoded(self, event: msgspec.Struct, stream_id: UUID) -> bytes:
        person = self._codec.person_of(event, stream_id)
        key = None if person is None else self._memory.keys.get(person)
        return self._codec.encode(event, stream_id, key)

    def _check_versions(self, streams: Sequence[StreamAppend], reads: Sequence[StreamRead]) -> None:
        """Raises VersionConflict, WrongKind."""
        expected = [(stream.stream_id, stream.expected_version) for stream in streams]
        expected += [(read.stream_id, read.version) for read in reads]
        moved = [each for each, version in expected if self._memory.version(each) != version]
        for stream in streams:
            there = self._memory.streams.get(stream.stream_id, ())[: stream.expected_version]
            if len(there) == stream.expected_version > 0:
                kind = self._codec.kinds[there[-1][0].name]
                if kind != kind_of_all(stream.events):
                    raise WrongKind(f"stream {stream.stream_id} is of kind {kind}")
        if moved:
            raise VersionConflict([stream.stream_id for stream in streams], moved)

    def _tell(self, stream_ids: Iterable[UUID]) -> None:
        self._memory.wake()
        for stream_id in stream_ids:
            for waiting in self._memory.waiting.get(stream_id, ()):
                waiting.set()

    # -- reading -----------------------------------------------------------------------------------

    async def as_of(self, position: int | None) -> Self:  # noqa: ARG002
        """The same log: nothing is ever read otherwise."""
        return self

    async def read(
        self,
        after: int = 0,
        *,
        upto: int | None = None,
        names: Sequence[str] | None = None,
        limit: int = 1000,
    ) -> list[Recorded]:
        """As `Log.read`; at most PAGE_BYTES of payload, or one event."""
        await self._turn()
        return self._decoded(_page(self._between(after, upto, names), limit)[0])

    async def read_stream(
        self,
        stream_id: UUID,
        after_version: int = 0,
        *,
        upto: int | None = None,
        limit: int | None = None,
        but: Sequence[str] = (),
    ) -> list[Recorded]:
        """As `Log.read_stream`; with a `limit`, at most PAGE_BYTES of payload, or one event."""
        await self._turn()
        rows = self._of_stream(stream_id, after_version, upto, but)
        return self._decoded(rows if limit is None else _page(rows, limit)[0])

    async def read_stream_page(
        self,
        stream_id: UUID,
        after_version: int = 0,
        *,
        upto: int | None = None,
        but: Sequence[str] = (),
    ) -> tuple[list[Recorded], bool]:
        """As `read_stream`, at most the next STREAM_PAGE events; and whether there are more."""
        await self._turn()
        rows, more = _page(self._of_stream(stream_id, after_version, upto, but), STREAM_PAGE)
        return self._decoded(rows), more

    async def read_first_events(
        self, stream_id: UUID, after_version: int = 0, *, but: Sequence[str] = ()
    ) -> tuple[list[Recorded], bool]:
        """As `Log.read_first_events`."""
        await self._turn()
        rows, more = _page(self._of_stream(stream_id, after_version, None, but), FIRST_EVENTS)
        return self._decoded(rows), more

    async def versions(self, stream_ids: Sequence[UUID]) -> list[int]:
        """As `Log.versions`."""
        await self._turn()
        return [self._memory.version(stream_id) for stream_id in stream_ids]

    async def head(self) -> int:
        """As `Log.head`."""
        await self._turn()
        return len(self._memory.rows)

    async def subscribe(
        self, after: int = 0, *, names: Sequence[str] | None = None
    ) -> AsyncGenerator[list[Recorded], None]:
        """As `Log.subscribe`; raises LogUnavailable once the log is closed."""
        while True:
            await self._turn()
            news, head = self._memory.news, len(self._memory.rows)
            rows, more = _page(self._between(after, head, names), 1000)
            after = rows[-1][0].position if more else max(after, head)
            if rows:
                yield self._decoded(rows)
            else:
                await news.wait()

    @asynccontextmanager
    async def watching(self, stream_ids: Collection[UUID]) -> AsyncIterator[asyncio.Event]:
        """As `eventstore.consumers.stream_watcher.StreamWatcher.watching`."""
        news = asyncio.Event()
        for stream_id in stream_ids:
            self._memory.waiting[stream_id].add(news)
        try:
            yield news
        finally:
            for stream_id in stream_ids:
                self._memory.waiting[stream_id].discard(news)

    def patience(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """As `eventstore.consumers.stream_watcher.StreamWatcher.patience`."""
        return asyncio.timeout(seconds)

    def _between(self, after: int, upto: int | None, names: Sequence[str] | None) -> Iterable[Row]:
        """Events with after < position ≤ upto, in order."""
        rows = islice(self._memory.rows, after, upto)
        return rows if names is None else (row for row in rows if row[0].name in names)

    def _of_stream(
        self, stream_id: UUID, after_version: int, upto: int | None, but: Collection[str]
    ) -> list[Row]:
        """A stream's events above a version, without those of the names in `but` except the last
        event."""
        rows = self._memory.streams.get(stream_id, [])
        if upto is not None:
            rows = [row for row in rows if row[0].position <= upto]
        last = len(rows)
        return [
            row for row in rows[after_version:] if row[0].name not in but or row[0].version == last
        ]

    def _decoded(self, rows: Sequence[Row]) -> list[Recorded]:
        self._saw(rows)
        key_of = self._memory.keys.get
        return [
            Recorded(env, self._codec.decode(env.name, payload, env.stream_id, key_of))
            for env, payload in rows
        ]

    def _saw(self, rows: Sequence[Row]) -> None:
        if rows:
            env, _ = rows[-1]
            self.history.saw(env.position, env.event_id, self.history.generation)

    # -- once-keys ---------------------------------------------------------------------------------

    async def done(self, key: UUID) -> IdempotencyRecord | None:
        """As `Log.done`."""
        await self._turn()
        found = self._memory.done.get(key)
        return found and found[0]

    async def answer(self, key: UUID, answer: bytes) -> None:
        """As `Log.answer`."""
        await self._turn()
        done, expires_at = self._memory.done.get(key, (None, None))
        if done is not None and done.answer is None:
            self._memory.done[key] = msgspec.structs.replace(done, answer=answer), expires_at

    async def purge_expired(self) -> int:
        """As `Log.purge_expired`."""
        await self._turn()
        now = min(self._clock.now(), self._memory.clock.now())
        over = [
            key
            for key, (_, expires_at) in self._memory.done.items()
            if expires_at and expires_at < now
        ]
        for key in over:
            del self._memory.done[key]
        return len(over)


def _page(rows: Iterable[Row], limit: int) -> tuple[list[Row], bool]:
    """At most `limit` events and PAGE_BYTES of payload, or one event;
    and whether there are more."""
    page: list[Row] = []
    size = 0
    for row in rows:
        size += len(row[1])
        if len(page) == limit or (page and size > PAGE_BYTES):
            return page, True
        page.append(row)
    return page, False
