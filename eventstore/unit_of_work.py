"""One decision: the streams it loaded, at which versions, and the events it emits."""

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from eventstore.aggregate import Aggregate
from eventstore.codec import kind_of_all
from eventstore.log import Metadata, StreamAppend, StreamRead, VersionConflict, WrongKind
from eventstore.repository import Repository

S = TypeVar("S")


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

    def __init__(self, repository: Repository, metadata: Metadata, *, fresh: bool) -> None:
        self._repository = repository
        self._fresh = fresh
        self._generation = repository.log.history.generation
        self._streams: dict[UUID, _Stream] = {}
        self.metadata = metadata
        self.result_ids: dict[str, str] = {}

    async def load(
        self,
        aggregate: Aggregate[S],
        stream_id: UUID,
        *,
        check: bool = True,
        likely_new: bool = False,
    ) -> S | None:
        """The state of a stream, including what this unit has emitted; None when the stream does
        not exist.

        The append verifies that the state is still the latest. Without `check` it does so only for
        a stream that does not exist: for a state that a later step decides on again.

        With `likely_new`, a stream that this process does not know is presumed not to exist, and is
        not read: like any outdated state, that is found out before anybody sees the decision.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            stream = self._streams[stream_id] = await self._first_load(
                aggregate, stream_id, likely_new=likely_new
            )
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

    async def _first_load(
        self, aggregate: Aggregate[Any], stream_id: UUID, *, likely_new: bool = False
    ) -> _Stream:
        if likely_new and not self._fresh and not self._repository.has_cached(stream_id):
            return _Stream(aggregate, 0, None, True, [])
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
