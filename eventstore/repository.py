"""The states of aggregates as this process knows them: folded from their streams, and cached.

A cached state may be outdated. Whoever decides on it has its version checked by the append
(`eventstore.decide`). If the log's history changes (`eventstore.history`), the cache is dropped.

A stream has one kind for ever, that of its events. Loaded as another kind, it does not exist.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import psycopg

from eventstore.aggregate import Aggregate
from eventstore.codec import kind_of
from eventstore.decoding import SKIPPED
from eventstore.history import HistoryChanged
from eventstore.log import Log, Recorded, pages_of
from eventstore.snapshots import Snapshots
from eventstore.states_ahead import StatesAhead
from eventstore.turns import Turns
from kit.metrics import count_lookup

logger = logging.getLogger(__name__)

S = TypeVar("S")

SNAPSHOT_BYTES_PER_EVENT = 1_000
"""The snapshot size allowed per event of the stream: one of 2 MB is taken every 2,000 events."""


class _Snapshot(msgspec.Struct):
    """Version and size in bytes of a stream's last snapshot."""

    version: int = 0
    size: int = 0


class _Cached(msgspec.Struct):
    kind: str
    version: int
    state: Any
    snapshot: _Snapshot


class Repository:
    """Loads aggregates, and keeps their states in memory and as snapshots."""

    def __init__(
        self, log: Log, snapshots: Snapshots | None = None, *, cache_size: int = 10_000
    ) -> None:
        self.log = log
        self._snapshots = snapshots
        self._cache: OrderedDict[UUID, _Cached] = OrderedDict()
        self._cache_size = cache_size
        self.turns = Turns(log.precedence)
        self.ahead = StatesAhead()
        self._background: set[asyncio.Task[None]] = set()
        log.history.when_it_changes(self._forget_all)
        log.amendments.when_they_change(self._cache.clear)

    async def load(
        self, aggregate: Aggregate[S], stream_id: UUID, *, fresh: bool = True
    ) -> tuple[int, S | None, bool]:
        """Version and state of a stream, and whether they come unchecked from the cache; `fresh`
        reads newer events first.

        For a stream of another kind: its version, and None.
        """
        generation, amendments = self.log.history.generation, self.log.amendments.now
        found = self._cache.get(stream_id)
        count_lookup("states", hit=found is not None)
        if found is not None and found.kind != aggregate.kind:
            return (await self.log.versions([stream_id]))[0], None, False
        if found is not None and not fresh:
            self._cache.move_to_end(stream_id)
            return found.version, found.state, True
        if found is None:
            found = await self._from_snapshot(aggregate, stream_id)
        version, state = await self._folded(aggregate, stream_id, found.version, found.state)
        if (generation, amendments) != (self.log.history.generation, self.log.amendments.now):
            return await self.load(aggregate, stream_id)  # it may be of two histories, or readings
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
            if not _are_of(aggregate, events):
                return (await self.log.versions([stream_id]))[0], None
            state = aggregate.fold(state, [recorded.event for recorded in events])
        return version, state

    async def cached(self, aggregate: Aggregate[S], stream_id: UUID) -> S | None:
        """The state as last seen by this process: sufficient for what never changes once it
        exists."""
        return (await self.load(aggregate, stream_id, fresh=False))[1]

    def has_cached(self, stream_id: UUID) -> bool:
        """Whether this process has a state of the stream, of whatever kind."""
        return stream_id in self._cache

    def latest_version(self, aggregate: Aggregate[Any], stream_id: UUID) -> int | None:
        """The stream's version after all appends in flight, as far as this process knows; None
        when it does not."""
        if (ahead := self.ahead.newest(stream_id)) is not None:
            return ahead.version if ahead.aggregate.kind == aggregate.kind else None
        found = self._cache.get(stream_id)
        return None if found is None or found.kind != aggregate.kind else found.version

    def remember(
        self, aggregate: Aggregate[Any], stream_id: UUID, version: int, state: object
    ) -> None:
        """Cache a state that was just appended, and take a snapshot when one is due. A stream with
        amendments is loaded again: the state may rest on an earlier reading."""
        if self.log.amendments.now.about(stream_id):
            self._cache.pop(stream_id, None)
            return
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
        schema = self._schema(aggregate, stream_id)
        task = asyncio.create_task(
            _save(self._snapshots, stream_id, schema, found, check, sealed=aggregate.sealed)
        )
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _forget_all(self) -> None:
        self._cache.clear()
        self.ahead.clear()

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
                stream_id,
                self._schema(aggregate, stream_id),
                aggregate.state,
                sealed=aggregate.sealed,
            )
            if found is not None:
                state, version, size = found
                return _Cached(aggregate.kind, version, state, _Snapshot(version, size))
        return _Cached(aggregate.kind, 0, None, _Snapshot())

    def _schema(self, aggregate: Aggregate[Any], stream_id: UUID) -> str:
        """The schema of a snapshot: the state's shape, and how the stream's events are read."""
        amended = self.log.amendments.now.about(stream_id)
        return f"{aggregate.kind}.{aggregate.schema}" + (f".amended_{amended}" if amended else "")


def _are_of(aggregate: Aggregate[Any], events: Sequence[Recorded]) -> bool:
    """Whether events of a stream are of the aggregate's kind, as far as they are not skipped."""
    first = next((each.event for each in events if each.event is not SKIPPED), None)
    return first is None or kind_of(type(first)) == aggregate.kind


async def _save(
    snapshots: Snapshots,
    stream_id: UUID,
    schema: str,
    found: _Cached,
    check: Callable[[], None],
    *,
    sealed: bool,
) -> None:
    try:
        size = await snapshots.save(
            stream_id, schema, found.state, found.version, check, sealed=sealed
        )
        found.snapshot.size = size
    except (psycopg.Error, HistoryChanged) as error:  # only a shortcut is lost
        logger.warning("no snapshot of %s at version %s: %s", stream_id, found.version, error)
