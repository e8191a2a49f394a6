"""Aggregates from the log and back: load by folding a stream, decide, append what was decided.

A `UnitOfWork` is one decision: it loads states, collects events, and appends them at the versions
it saw. States are cached per process. For streams that are appended to, the version check makes
that safe; for streams that are only read, `Repository.decide` has their versions checked with the
append. After a conflict, or any other outcome of a decision on outdated cached states (a refusal, a
failure, no event), the decision runs again on fresh ones before anybody sees it.

If the log's history changes (`eventstore.history`), the cache is dropped, and decisions under way
run again.

A stream has one kind for ever, that of its events. Loaded as another kind, it does not exist.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
import psycopg

from eventstore.codec import kind_of, kind_of_all
from eventstore.database.postgres import is_away
from eventstore.history import HistoryChanged
from eventstore.log import (
    AlreadyDone,
    Appended,
    IdempotencyKey,
    Log,
    Metadata,
    StreamAppend,
    StreamRead,
    VersionConflict,
    WrongKind,
    pages_of,
)
from eventstore.snapshots import Snapshots

log = logging.getLogger(__name__)

S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
R = TypeVar("R")

ATTEMPTS = 20
"""How often a decision runs while others keep appending first."""


SNAPSHOT_BYTES_PER_EVENT = 1_000
"""The snapshot size allowed per event of the stream: one of 2 MB is taken
only every 2,000 events."""


class NoSuchStream(LookupError):
    """The stream does not exist, and its kind has no error of its own for that."""


class UnexpectedVersion(Exception):
    """The stream is at another `version` than expected, and its kind has no error of its own for
    that."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the stream is at version {version}")
        self.version = version


class Aggregate(msgspec.Struct, Generic[S_co], frozen=True):
    """A kind of stream, and how its events fold into a state. `kind` is that of its events
    (`eventstore.codec.kind_of`).

    A snapshot is taken every `snapshot_every` versions, large ones more rarely (0: never). It is
    `sealed` when the state has personal fields, all of which must belong to the stream's own
    person. `schema` identifies the state's shape, so that a snapshot of an older release is not
    read. `ignores` are events that do not affect the state, and are not read.

    `missing` makes the error for a stream that does not exist, `stale` the one for a stream that is
    at this version instead of the expected one. Each call makes a new error: an exception that is
    raised twice keeps both tracebacks.
    """

    kind: str
    state: type[S_co]
    evolve: Callable[[Any, Any], S_co | None]
    snapshot_every: int = 0
    schema: int = 1
    sealed: bool = False
    ignores: tuple[type[msgspec.Struct], ...] = ()
    missing: Callable[[], Exception] = NoSuchStream
    stale: Callable[[int], Exception] = UnexpectedVersion

    @property
    def unread(self) -> list[str]:
        """The names of the ignored events."""
        return [event.NAME for event in self.ignores]  # type: ignore[attr-defined]

    def fold(self, state: Any, events: Sequence[msgspec.Struct]) -> S_co | None:
        """The state (None before the first event) after these events."""
        for event in events:
            state = self.evolve(state, event)
        return state  # type: ignore[no-any-return]


class _Snapshot(msgspec.Struct):
    """Version and size in bytes of a stream's last snapshot."""

    version: int = 0
    size: int = 0


class _Cached(msgspec.Struct):
    kind: str
    version: int
    state: Any
    snapshot: _Snapshot


class _Stream(msgspec.Struct):
    """A stream within one decision: the version at which it was loaded, its state so far, and the
    events to append."""

    aggregate: Aggregate[Any]
    version: int
    state: Any
    cached: bool
    events: list[msgspec.Struct]
    checked: bool = False


class UnitOfWork:
    """One decision about one or several streams, appended as a whole or not at all."""

    def __init__(self, repository: "Repository", metadata: Metadata, *, fresh: bool) -> None:
        self._repository = repository
        self._fresh = fresh
        self._generation = repository.log.history.generation
        self._streams: dict[UUID, _Stream] = {}
        self.metadata = metadata
        self.result_ids: dict[str, str] = {}

    async def load(
        self, aggregate: Aggregate[S], stream_id: UUID, *, check: bool = True
    ) -> S | None:
        """The state of a stream, including what this unit has emitted; None when the stream does
        not exist.

        The append verifies that the state is still the latest. Without `check` it does so only for
        a stream that does not exist: for a state that a later step decides on again.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            stream = self._streams[stream_id] = await self._first_load(aggregate, stream_id)
        elif stream.aggregate.kind != aggregate.kind:
            if (
                stream.events
                or (found := await self._first_load(aggregate, stream_id)).state is None
            ):
                return None
            stream = self._streams[stream_id] = found  # it is not of the kind asked for first
        stream.checked = stream.checked or check or stream.state is None
        state: S | None = stream.state
        return state

    async def get(self, aggregate: Aggregate[S], stream_id: UUID, *, check: bool = True) -> S:
        """As `load`, of a stream that has to exist. Raises the kind's `missing`."""
        state = await self.load(aggregate, stream_id, check=check)
        if state is None:
            raise aggregate.missing()
        return state

    def expect(self, stream_id: UUID, version: int | None) -> None:
        """Check that a loaded stream is still at the version that its caller has seen; None expects
        nothing.

        Raises the kind's `stale`.
        """
        stream = self._streams[stream_id]
        if version is not None and version != stream.version:
            raise stream.aggregate.stale(stream.version)

    async def _first_load(self, aggregate: Aggregate[Any], stream_id: UUID) -> _Stream:
        version, state, cached = await self._repository.load(
            aggregate, stream_id, fresh=self._fresh
        )
        return _Stream(aggregate, version, state, cached, [])

    def create(
        self, aggregate: Aggregate[S], stream_id: UUID, events: Sequence[msgspec.Struct]
    ) -> None:
        """Emit the first events of a stream that is known to be new (a fresh id), without reading
        it."""
        self._streams.setdefault(stream_id, _Stream(aggregate, 0, None, False, [], checked=True))
        self.emit(stream_id, events)

    def emit(self, stream_id: UUID, events: Sequence[msgspec.Struct]) -> None:
        """Add events to a stream that this unit loaded or created. Raises WrongKind for those of
        another kind."""
        stream = self._streams[stream_id]
        if events and kind_of_all(events) != stream.aggregate.kind:
            raise WrongKind(
                f"{type(events[0]).__name__} for a stream of kind {stream.aggregate.kind}"
            )
        stream.events.extend(events)
        stream.state = stream.aggregate.fold(stream.state, events)

    def version_after(self, stream_id: UUID) -> int:
        """The version of a stream once this unit is appended."""
        stream = self._streams[stream_id]
        return stream.version + len(stream.events)

    def version(self, stream_id: UUID) -> int:
        """The version at which a stream was loaded."""
        return self._streams[stream_id].version

    def record_ids(self, **ids: UUID | str) -> None:
        """Name the ids of what was created, for a replay under the request's idempotency key."""
        self.result_ids.update({name: str(value) for name, value in ids.items()})

    async def is_stale(self) -> bool:
        """Whether a cached stream has moved on. For decisions without an append, which would find
        out by itself."""
        if self._is_void():
            return True
        cached = {
            stream_id: stream.version
            for stream_id, stream in self._streams.items()
            if stream.cached
        }
        return bool(cached) and await self._repository.log.versions(list(cached)) != list(
            cached.values()
        )

    def _is_void(self) -> bool:
        return self._repository.log.history.generation != self._generation

    def appends(self) -> list[StreamAppend]:
        return [StreamAppend(i, s.version, s.events) for i, s in self._streams.items() if s.events]

    def reads(self) -> list[StreamRead]:
        """The streams that the decision rests on without appending to them."""
        return [
            StreamRead(i, s.version) for i, s in self._streams.items() if not s.events and s.checked
        ]

    def must_hold(self) -> None:
        """Raises VersionConflict when the log's history has changed since this unit began."""
        if self._is_void():
            raise VersionConflict(list(self._streams))

    def committed(self) -> None:
        """Cache the states that are now in the log."""
        if self._is_void():
            return
        for stream_id, s in self._streams.items():
            if s.events:
                self._repository.remember(
                    s.aggregate, stream_id, s.version + len(s.events), s.state
                )


Decision = Callable[[UnitOfWork], Awaitable[R]]


class Repository:
    """Loads aggregates and carries out decisions on them."""

    def __init__(
        self, log: Log, snapshots: Snapshots | None = None, *, cache_size: int = 10_000
    ) -> None:
        self.log = log
        self._snapshots = snapshots
        self._cache: OrderedDict[UUID, _Cached] = OrderedDict()
        self._cache_size = cache_size
        self._locks: dict[UUID, tuple[asyncio.Lock, int]] = {}
        self._background: set[asyncio.Task[None]] = set()
        log.history.when_it_changes(self._forget_all)

    async def load(
        self, aggregate: Aggregate[S], stream_id: UUID, *, fresh: bool = True
    ) -> tuple[int, S | None, bool]:
        """Version and state of a stream, and whether they come unchecked from the cache; `fresh`
        reads newer events first.

        For a stream of another kind: its version, and None.
        """
        generation = self.log.history.generation
        found = self._cache.get(stream_id)
        if found is not None and found.kind != aggregate.kind:
            return (await self.log.versions([stream_id]))[0], None, False
        if found is not None and not fresh:
            self._cache.move_to_end(stream_id)
            return found.version, found.state, True
        if found is None:
            found = await self._from_snapshot(aggregate, stream_id)
        version, state = await self._folded(aggregate, stream_id, found.version, found.state)
        if generation != self.log.history.generation:  # it may be of two histories
            return await self.load(aggregate, stream_id)
        self._keep(stream_id, _Cached(aggregate.kind, version, state, found.snapshot))
        self._snapshot_if_due(aggregate, stream_id)
        return version, state, False

    async def state(self, aggregate: Aggregate[S], stream_id: UUID) -> S | None:
        """The current state of a stream."""
        return (await self.load(aggregate, stream_id))[1]

    async def get(self, aggregate: Aggregate[S], stream_id: UUID, *, fresh: bool = True) -> S:
        """The state as it is now in the log; without `fresh`, as `cached`. Raises the kind's
        `missing`."""
        return (await self.get_versioned(aggregate, stream_id, fresh=fresh))[1]

    async def get_versioned(
        self, aggregate: Aggregate[S], stream_id: UUID, *, fresh: bool = True
    ) -> tuple[int, S]:
        """Version and state, as `get`. Raises the kind's `missing`."""
        version, state, _ = await self.load(aggregate, stream_id, fresh=fresh)
        if state is None:
            raise aggregate.missing()
        return version, state

    async def rehydrate(self, aggregate: Aggregate[S], stream_id: UUID) -> S | None:
        """As `state`, but folded from the events alone, so that personal data is present only if
        its key still exists.

        A cached state may have been decrypted with a key that was destroyed since.
        """
        return (await self._folded(aggregate, stream_id, 0, None))[1]

    async def _folded(
        self, aggregate: Aggregate[S], stream_id: UUID, version: int, state: S | None
    ) -> tuple[int, S | None]:
        """Version and state after all events above a version; no state when the stream is of
        another kind."""
        async for events in pages_of(self.log, stream_id, version, but=aggregate.unread):
            version = events[-1].env.version
            if kind_of(type(events[0].event)) != aggregate.kind:
                return (await self.log.versions([stream_id]))[0], None
            state = aggregate.fold(state, [recorded.event for recorded in events])
        return version, state

    async def cached(self, aggregate: Aggregate[S], stream_id: UUID) -> S | None:
        """The state as last seen by this process: sufficient for what
        never changes once it exists."""
        return (await self.load(aggregate, stream_id, fresh=False))[1]

    async def decide(
        self,
        decision: Decision[R],
        metadata: Metadata = Metadata(),
        *,
        once: IdempotencyKey | None = None,
        refusal: type[Exception] = Exception,
    ) -> tuple[R, Appended | None]:
        """Run a decision and append its events. On a conflict it runs again, with the contended
        streams locked.

        Returns its result and where it was appended (None without events). Whatever fails on cached
        states is tried on fresh ones first. Raises VersionConflict after ATTEMPTS; whatever the
        decision or the append raises; AlreadyDone, also instead of a `refusal`.
        """
        async with AsyncExitStack() as locks:
            fresh = queued = False
            for attempt in range(1, ATTEMPTS + 1):
                unit = UnitOfWork(self, metadata, fresh=fresh)
                try:
                    result = await decision(unit)
                    appends = unit.appends()
                    if not appends:
                        if fresh := await unit.is_stale():
                            continue
                        return result, None
                    if not queued and (
                        contended := [e.stream_id for e in appends if e.stream_id in self._locks]
                    ):
                        # Others queue for the stream: out of turn this would lose. In its turn, the
                        # cache is current.
                        await self._queue_up(locks, contended)
                        queued = True
                        continue
                    unit.must_hold()
                    key = once and msgspec.structs.replace(
                        once, result_ids={**once.result_ids, **unit.result_ids}
                    )
                    appended = await self.log.append(appends, unit.metadata, key, unit.reads())
                except VersionConflict as conflict:
                    if attempt == ATTEMPTS:
                        raise
                    if not queued:
                        await self._queue_up(locks, conflict.stream_ids)
                    fresh = queued = True
                except Exception as error:
                    # no other state would change that
                    if isinstance(error, AlreadyDone) or is_away(error):
                        raise
                    # Any other failure may be due to outdated states: a rule, or a key destroyed
                    # since.
                    if fresh := await unit.is_stale():
                        continue
                    if isinstance(error, refusal):
                        await self._raise_if_done(once)
                    raise
                else:
                    unit.committed()
                    return result, appended
            raise AssertionError("unreachable")

    async def _raise_if_done(self, once: IdempotencyKey | None) -> None:
        """A refusal may only mean that another process has carried out the same request, sent twice
        at once."""
        if once is not None and (done := await self.log.done(once.key)) is not None:
            raise AlreadyDone(done)

    def remember(
        self, aggregate: Aggregate[Any], stream_id: UUID, version: int, state: object
    ) -> None:
        """Cache a state that was just appended, and take a snapshot when one is due."""
        found = self._cache.get(stream_id)
        snapshot = _Snapshot() if found is None else found.snapshot
        self._keep(stream_id, _Cached(aggregate.kind, version, state, snapshot))
        self._snapshot_if_due(aggregate, stream_id)

    def _snapshot_if_due(self, aggregate: Aggregate[Any], stream_id: UUID) -> None:
        found, every = self._cache.get(stream_id), aggregate.snapshot_every
        if self._snapshots is None or not every or found is None:
            return
        if found.version - found.snapshot.version < max(
            every, found.snapshot.size // SNAPSHOT_BYTES_PER_EVENT
        ):
            return
        found.snapshot.version = found.version
        check = partial(self.log.history.must_be, self.log.history.generation)
        task = asyncio.create_task(_save(self._snapshots, stream_id, aggregate, found, check))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _forget_all(self) -> None:
        self._cache.clear()

    def forget(self, stream_id: UUID) -> None:
        """Drop a stream from the cache."""
        self._cache.pop(stream_id, None)

    def _keep(self, stream_id: UUID, seen: _Cached) -> None:
        if seen.state is None:
            return
        known = self._cache.get(stream_id)
        if known is None or known.version <= seen.version:
            self._cache[stream_id] = seen
            self._cache.move_to_end(stream_id)
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)

    async def _from_snapshot(self, aggregate: Aggregate[Any], stream_id: UUID) -> _Cached:
        if self._snapshots is not None and aggregate.snapshot_every:
            found = await self._snapshots.load(
                stream_id, _schema(aggregate), aggregate.state, sealed=aggregate.sealed
            )
            if found is not None:
                state, version, size = found
                return _Cached(aggregate.kind, version, state, _Snapshot(version, size))
        return _Cached(aggregate.kind, 0, None, _Snapshot())

    async def _queue_up(self, locks: AsyncExitStack, stream_ids: Sequence[UUID]) -> None:
        """Wait for this decision's turn at contended streams, in stream-id order to avoid
        deadlocks."""
        for stream_id in sorted(set(stream_ids)):
            lock, users = self._locks.get(stream_id, (asyncio.Lock(), 0))
            self._locks[stream_id] = (lock, users + 1)
            locks.callback(self._leave, stream_id)
            await locks.enter_async_context(lock)

    def _leave(self, stream_id: UUID) -> None:
        lock, users = self._locks[stream_id]
        if users == 1:
            del self._locks[stream_id]
        else:
            self._locks[stream_id] = (lock, users - 1)


def _schema(aggregate: Aggregate[Any]) -> str:
    return f"{aggregate.kind}.{aggregate.schema}"


async def _save(
    snapshots: Snapshots,
    stream_id: UUID,
    aggregate: Aggregate[Any],
    found: _Cached,
    check: Callable[[], None],
) -> None:
    schema, sealed = _schema(aggregate), aggregate.sealed
    try:
        size = await snapshots.save(
            stream_id, schema, found.state, found.version, check, sealed=sealed
        )
        found.snapshot.size = size
    except (psycopg.Error, HistoryChanged) as error:  # only a shortcut is lost
        log.warning("no snapshot of %s at version %s: %s", stream_id, found.version, error)
