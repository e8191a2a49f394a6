"""The log's contract: what is appended, what is read back, and how an append is refused.

Three logs fulfil it: `eventstore.postgres_log`; `adapters.kurrentdb.kurrent_log`; and, for tests,
`eventstore.memory_log`. The contract's tests run over all of them.
"""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from datetime import datetime, timedelta
from typing import Any, Protocol, Self
from uuid import UUID

import msgspec

from eventstore.amendments import Amendments
from eventstore.flight import Flight
from eventstore.history import History
from eventstore.precedence import Precedence

MAX_EVENT_BYTES = 1 << 20
"""The largest payload of an event, as stored."""

MAX_APPEND_BYTES = 16 << 20
"""The largest append: all its events with their envelopes."""

CLOCK_TOLERANCE = timedelta(seconds=60)
"""How far this process's clock and the log's may differ, by default."""


class Metadata(msgspec.Struct, frozen=True):
    """Who caused an append, and why; stored with each of its events.

    `actor` is `user:<id>`, `reactor:<name>`, `system` or the like; `correlation_id` is shared by
    everything that one request set in motion; `causation_id` is the event that caused this one;
    `traceparent` is W3C Trace Context.
    """

    actor: str = "system"
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    traceparent: str | None = None


class StreamAppend(msgspec.Struct, frozen=True):
    """Events for one stream, at least one; the stream must be at `expected_version` (0: it does not
    exist yet)."""

    stream_id: UUID
    expected_version: int
    events: Sequence[msgspec.Struct]


class StreamRead(msgspec.Struct, frozen=True):
    """A stream that an append rests on without adding to it: it must still be at `version` (0: it
    does not exist)."""

    stream_id: UUID
    version: int


class IdempotencyKey(msgspec.Struct, frozen=True):
    """Makes an append happen once: committed with its events, refused with AlreadyDone when the key
    is known.

    `fingerprint` identifies the request, so that a repeat with another one shows; `result_ids` are
    the ids of what was created; `expires_at` None keeps the record for ever.
    """

    key: UUID
    fingerprint: bytes = b""
    result_ids: Mapping[str, str] = {}
    expires_at: datetime | None = None


class IdempotencyRecord(msgspec.Struct, frozen=True):
    """The record of a completed append: the fields of its key, and the
    position of its last event."""

    key: UUID
    fingerprint: bytes
    result_ids: Mapping[str, str]
    position: int
    answer: bytes | None = None


class Appended(msgspec.Struct, frozen=True):
    """The result of an append: the positions of its first and last event, its time, and the event
    ids in order."""

    first_position: int
    position: int
    recorded_at: datetime
    event_ids: Sequence[UUID]


class Placed(Protocol):
    """An event's place in its stream and in the log, and its times: all that folds see of its
    envelope, so that reading for them leaves out the rest."""

    @property
    def position(self) -> int: ...
    @property
    def stream_id(self) -> UUID: ...
    @property
    def version(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def recorded_at(self) -> datetime: ...
    @property
    def occurred_at(self) -> datetime: ...


class Envelope(msgspec.Struct, frozen=True):
    """Everything an event carries beside its payload.

    `occurred_at` is the time of the decision, by the deciding process's clock; events are dated by
    it. `recorded_at` is the log's time, which never runs backwards: like the position, it shows the
    order only. Events of an older release have only `recorded_at`, and both are the same.
    """

    position: int
    event_id: UUID
    stream_id: UUID
    version: int
    name: str
    recorded_at: datetime
    occurred_at: datetime
    actor: str
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    traceparent: str | None = None


class Recorded(msgspec.Struct, frozen=True):
    """An event in the log. Satisfies the `eventsourcing` library's DomainEventProtocol."""

    env: Envelope
    event: Any

    @property
    def originator_id(self) -> UUID:
        """The stream, under the eventsourcing library's name."""
        return self.env.stream_id

    @property
    def originator_version(self) -> int:
        """The version, under the eventsourcing library's name."""
        return self.env.version


class VersionConflict(Exception):
    """A stream was not at the expected version, as somebody else appended first. Nothing of the
    append was kept.

    `stream_ids` are the streams of the append; one of them, or one of its reads, moved on. `moved`
    are those that did, if the log could tell; the others need not be read again.
    """

    def __init__(self, stream_ids: Sequence[UUID], moved: Collection[UUID] = ()) -> None:
        super().__init__(f"stream moved on: {', '.join(map(str, moved or stream_ids))}")
        self.stream_ids = stream_ids
        self.moved = moved


class PredecessorFailed(VersionConflict):
    """The append rested on one in flight, which failed. Nothing of it was kept."""


class WrongKind(Exception):
    """The events belong to another kind of stream. Nothing of the append was kept.

    A stream has the kind of its events (`eventstore.codec.kind_of`).
    """


class AlreadyDone(Exception):
    """The append's idempotency key is already in the log. Nothing was appended."""

    def __init__(self, done: IdempotencyRecord) -> None:
        super().__init__(f"already done at position {done.position}")
        self.done = done


class TooLarge(Exception):
    """An event or an append exceeds the log's limit. Nothing of the append was kept.

    `code` is event_too_large or append_too_large.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class LogUnavailable(Exception):
    """The log is unreachable or closed. The append may have happened: its idempotency key tells."""


class ClocksDiffer(LogUnavailable):
    """This process's clock and the database's differ too much. Nothing was appended, and nothing
    will be until they agree again: a wrong time must not become history.

    `seconds` is how far this process's clock is ahead; negative: behind.
    """

    def __init__(self, seconds: float) -> None:
        ahead = "ahead of" if seconds > 0 else "behind"
        super().__init__(
            f"this process's clock is {abs(seconds):.1f} s {ahead} the database's: nothing was"
            " recorded"
        )
        self.seconds = seconds


def check_appends(streams: Sequence[StreamAppend]) -> None:
    """Raises ValueError unless there are streams, each once and each with events, at a version of
    at least 0. For adapters."""
    if not streams or not all(stream.events for stream in streams):
        raise ValueError("an append without events")
    if min(stream.expected_version for stream in streams) < 0:
        raise ValueError("a version below 0")
    if len({stream.stream_id for stream in streams}) < len(streams):
        raise ValueError("a stream twice in one append")


STREAM_PAGE = 1_000
"""Events of a stream read at once, so that other tasks run in between. Pages of large events have
fewer."""


FIRST_EVENTS = 32
"""Events of a stream read at first: most streams have no more, and need no other read."""


class StreamReader(Protocol):
    """Reads streams."""

    async def read_stream_page(
        self,
        stream_id: UUID,
        after_version: int = 0,
        *,
        upto: int | None = None,
        but: Sequence[str] = (),
    ) -> tuple[list[Recorded], bool]:
        """As `Log.read_stream`, at most the next STREAM_PAGE events; and whether there may be
        more."""
        ...

    async def read_first_events(
        self, stream_id: UUID, after_version: int = 0, *, but: Sequence[str] = ()
    ) -> tuple[list[Recorded], bool]:
        """As `read_stream_page`, at most FIRST_EVENTS if there may be more: the cheapest read of a
        short stream, as those at the same time share one statement."""
        ...


async def pages_of(
    log: StreamReader,
    stream_id: UUID,
    after_version: int = 0,
    *,
    upto: int | None = None,
    but: Sequence[str] = (),
) -> AsyncIterator[list[Recorded]]:
    """As `Log.read_stream`, in pages. Yields nothing for a stream without such events."""
    more = True
    if upto is None:
        page, more = await log.read_first_events(stream_id, after_version, but=but)
        if page:
            yield page
            after_version = page[-1].env.version
    while more:
        page, more = await log.read_stream_page(stream_id, after_version, upto=upto, but=but)
        if page:
            yield page
            after_version = page[-1].env.version


async def first_event(log: StreamReader, stream_id: UUID) -> Recorded | None:
    """The first event of a stream, which never changes; None when there is no such stream."""
    events, _ = await log.read_first_events(stream_id)
    return events[0] if events else None


async def whole_stream(
    log: StreamReader, stream_id: UUID, *, upto: int | None = None
) -> list[Recorded]:
    """A whole stream up to a position, read in pages."""
    return [each async for page in pages_of(log, stream_id, upto=upto) for each in page]


class Keys(Protocol):
    """Encryption keys for personal fields, one per person."""

    async def create(self, person_ids: Iterable[UUID]) -> None:
        """Create a key for each person without one."""
        ...

    async def get(self, person_ids: Iterable[UUID]) -> dict[UUID, bytes]:
        """The existing keys; forgotten and unknown persons are absent."""
        ...

    async def destroy(self, person_id: UUID) -> None:
        """Destroy the person's key. Irreversible."""
        ...


class Readings(Protocol):
    """How events are to be read, as this process knows it."""

    @property
    def now(self) -> Amendments:
        """The declarations known now."""
        ...

    def when_they_change(self, listener: Callable[[], None]) -> None:
        """Register a callback for changes. It must not fail."""
        ...


class LogReader(StreamReader, Protocol):
    """Reads streams, and the whole log."""

    async def as_of(self, position: int | None) -> Self:
        """The same log as a reader of a past moment: events are read as it was declared up to this
        position (`eventstore.amendments`; None: by all), and those that cannot be decoded are
        Unreadable."""
        ...

    async def read(
        self,
        after: int = 0,
        *,
        upto: int | None = None,
        names: Sequence[str] | None = None,
        limit: int = 1000,
    ) -> list[Recorded]:
        """Events with after < position ≤ upto in order, at most `limit`; only those of `names` when
        given."""
        ...


class Log(LogReader, Protocol):
    """An append-only log of streams, with one order over all of them."""

    history: History
    precedence: Precedence

    @property
    def amendments(self) -> Readings: ...

    @property
    def keys(self) -> Keys: ...

    async def append(
        self,
        streams: Sequence[StreamAppend],
        metadata: Metadata = ...,
        once: IdempotencyKey | None = None,
        reads: Sequence[StreamRead] = (),
        *,
        flight: Flight | None = None,
    ) -> Appended:
        """Append to several streams, all or nothing, and only if the `reads` still hold.

        A log that can append later what rests on this append lets the `flight` depart, and ends it.
        It does not append what rests on a failed one (PredecessorFailed).

        Raises VersionConflict, AlreadyDone, LogUnavailable (including ClocksDiffer); WrongKind for
        events of another kind than their stream's; TooLarge; ValueError as `check_appends`. A
        cancelled caller does not learn whether the append happened.
        """
        ...

    async def read_stream(
        self,
        stream_id: UUID,
        after_version: int = 0,
        *,
        upto: int | None = None,
        limit: int | None = None,
        but: Sequence[str] = (),
    ) -> list[Recorded]:
        """A stream's events above a version, in order, at most `limit`, none beyond position
        `upto`. Leaves out those of the names in `but`, except the stream's last event, which shows
        the version."""
        ...

    async def versions(self, stream_ids: Sequence[UUID]) -> list[int]:
        """The current versions of these streams, in the same order; 0 for one that does not
        exist."""
        ...

    async def head(self) -> int:
        """The position of the last event, 0 when there is none."""
        ...

    def subscribe(
        self, after: int = 0, *, names: Sequence[str] | None = None
    ) -> AsyncGenerator[list[Recorded], None]:
        """Endless pages of events after a position: existing ones, then new ones."""
        ...

    async def done(self, key: UUID) -> IdempotencyRecord | None:
        """The record of an idempotency key, if its append happened."""
        ...

    async def answer(self, key: UUID, answer: bytes) -> None:
        """Store the answer given under an idempotency key, for replays. The first one stays."""
        ...

    async def purge_expired(self) -> int:
        """Delete the idempotency keys that have expired by both the log's clock and ours. Returns
        their number."""
        ...
