"""One decision: the streams it loaded, at which versions, and the events it emits."""

from collections.abc import Callable, Container, Sequence
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from eventstore.aggregate import Aggregate
from eventstore.codec import kind_of_all
from eventstore.flight import Flight
from eventstore.log import (
    AlreadyDone,
    Appended,
    IdempotencyKey,
    Metadata,
    StreamAppend,
    StreamRead,
    VersionConflict,
    WrongKind,
)
from eventstore.repository import Repository
from eventstore.states_ahead import StateAhead
from kit import tracing

S = TypeVar("S")


class _AllStreams(Container[UUID]):
    def __contains__(self, _: object) -> bool:
        return True


_NO_FAULTS = (VersionConflict, AlreadyDone)
"""Outcomes of an append after which the decision goes on."""

ALL_STREAMS = _AllStreams()
"""Of which some have moved on, and nobody knows which."""


class _Stream(msgspec.Struct):
    """A stream within one decision: the version at which it was loaded, its state so far, the
    events to append, and the append in flight that will leave it at that version."""

    aggregate: Aggregate[Any]
    version: int
    state: Any
    cached: bool
    events: list[msgspec.Struct]
    checked: bool = False
    flight: Flight | None = None


class UnitOfWork:
    """One decision about one or several streams, appended as a whole or not at all."""

    def __init__(
        self,
        repository: Repository,
        metadata: Metadata,
        *,
        outdated: Container[UUID] = (),
        missing: Container[UUID] = (),
    ) -> None:
        """States of `outdated` streams are read from the log; the others come from appends in
        flight and from the cache, where they can. Streams that were `missing` a moment ago are
        presumed not to exist."""
        self._repository = repository
        self._outdated = outdated
        self._missing = missing
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
            stream = self._ahead(aggregate, stream_id) or await self._first_load(
                aggregate, stream_id, likely_new=likely_new or stream_id in self._missing
            )
            self._streams[stream_id] = stream
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

    def _ahead(self, aggregate: Aggregate[Any], stream_id: UUID) -> _Stream | None:
        """The stream as appends in flight will leave it, if there are any."""
        newest = self._repository.ahead.newest
        found = None if stream_id in self._outdated else newest(stream_id)
        if found is None or found.aggregate.kind != aggregate.kind:
            return None
        return _Stream(aggregate, found.version, found.state, True, [], flight=found.flight)

    async def _first_load(
        self, aggregate: Aggregate[Any], stream_id: UUID, *, likely_new: bool = False
    ) -> _Stream:
        fresh = stream_id in self._outdated
        if likely_new and not fresh and not self._repository.has_cached(stream_id):
            return _Stream(aggregate, 0, None, True, [])
        version, state, cached = await self._repository.load(aggregate, stream_id, fresh=fresh)
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

    def missing(self) -> frozenset[UUID]:
        """The streams that were looked for and do not exist."""
        return frozenset(i for i, s in self._streams.items() if s.checked and s.version == 0)

    def is_outrun(self) -> bool:
        """Whether this process knows a stream at another version than this unit."""
        latest = self._repository.latest_version
        return any(
            latest(stream.aggregate, stream_id) not in (None, stream.version)
            for stream_id, stream in self._streams.items()
            if stream.checked or stream.events
        )

    def is_ahead(self) -> bool:
        """Whether appends to a stream of this unit are in flight."""
        return any(self._repository.ahead.newest(i) is not None for i in self._streams)

    async def outdated(self) -> Container[UUID]:
        """The cached streams that have moved on (without any, a false value); all, when an append
        failed that this unit rests on. For decisions without an append, which would find out by
        itself. Waits for appends in flight."""
        for flight in self._rests_on():
            if not await flight.outcome():
                return ALL_STREAMS
        if self._is_void():
            return ALL_STREAMS
        cached = {
            stream_id: stream.version
            for stream_id, stream in self._streams.items()
            if stream.cached
        }
        latest = await self._repository.log.versions(list(cached)) if cached else []
        return [i for i, version in zip(cached, latest, strict=True) if cached[i] != version]

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

    async def append(
        self,
        appends: Sequence[StreamAppend],
        once: IdempotencyKey | None,
        when_departed: Callable[[], None],
    ) -> Appended:
        """Append, and cache the states that are then in the log. As soon as the append has
        departed, others can rest on them. Raises as Log.append."""

        def departed() -> None:
            self._announce(flight)
            when_departed()

        flight = Flight(self._rests_on(), on_departure=departed, on_end=lambda: self._ended(flight))
        try:
            with tracing.span("append", self.metadata.traceparent, expected=_NO_FAULTS):
                appended = await self._repository.log.append(
                    appends, self._metadata_of_span(), once, self.reads(), flight=flight
                )
                if tracing.is_on():
                    tracing.describe(_described(appends, appended))
        except BaseException:
            if not flight.has_departed:
                flight.fail()
            raise
        flight.land()
        return appended

    def _metadata_of_span(self) -> Metadata:
        """The metadata of an append: its `traceparent` is that of the span at hand."""
        traceparent = tracing.traceparent(self.metadata.traceparent)
        if traceparent == self.metadata.traceparent:
            return self.metadata
        return msgspec.structs.replace(self.metadata, traceparent=traceparent)

    def _rests_on(self) -> list[Flight]:
        """The appends in flight that will leave the states of this unit, each once."""
        flights = {s.flight: None for s in self._streams.values() if s.flight is not None}
        return [flight for flight in flights if not flight.landed]

    def _announce(self, flight: Flight) -> None:
        for stream_id, s in self._streams.items():
            if s.events:
                state = StateAhead(s.aggregate, s.version + len(s.events), s.state, flight)
                self._repository.ahead.add(stream_id, state)

    def _ended(self, flight: Flight) -> None:
        """The append in this flight has its outcome: cache the states that are now in the log."""
        void = self._is_void()
        for stream_id, s in self._streams.items():
            if s.events:
                if flight.landed and not void:
                    self._repository.remember(
                        s.aggregate, stream_id, s.version + len(s.events), s.state
                    )
                self._repository.ahead.end(stream_id, flight)


def _described(appends: Sequence[StreamAppend], appended: Appended) -> tracing.Attributes:
    """What a span says of an append."""
    names = {type(event).__name__ for append in appends for event in append.events}
    return {"log.position": appended.position, "log.events": sorted(names)}
