"""The log's contract: what is appended, what is read back, and how an append is refused.

An adapter keeps all of it: `eventstore.postgres_log` does, and for tests `eventstore.memory_log`. The tests of the
contract run over each of them.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import msgspec

from eventstore.history import History

MAX_EVENT_BYTES = 1 << 20
"""How large an event's payload may be, as it is stored."""

MAX_APPEND_BYTES = 16 << 20
"""How large all events of one append may be together, with their envelopes."""

CLOCK_TOLERANCE = timedelta(seconds=60)
"""How far the clocks of this process and of the log may be apart, unless something else is said."""


class Metadata(msgspec.Struct, frozen=True):
    """Who did it and why: stored with every event of an append.

    `actor` is `user:<id>`, `reactor:<name>`, `system` or the like; `correlation_id` is shared by everything that one
    request set in motion; `causation_id` is the event that caused this one; `traceparent` is W3C Trace Context.
    """

    actor: str = "system"
    correlation_id: UUID | None = None
    causation_id: UUID | None = None
    traceparent: str | None = None


class StreamAppend(msgspec.Struct, frozen=True):
    """Events for one stream, at least one; it must be at `expected_version` (0: it does not exist yet)."""

    stream_id: UUID
    expected_version: int
    events: Sequence[msgspec.Struct]


class StreamRead(msgspec.Struct, frozen=True):
    """A stream that an append rests on without adding to it: it must still be at `version` (0: not exist)."""

    stream_id: UUID
    version: int


class Once(msgspec.Struct, frozen=True):
    """Makes an append happen once: committed with the events, refused with AlreadyDone when the key is known.

    `fingerprint` tells whether a repeat asks for the same thing; `refs` are the ids of what was made;
    `expires_at` None keeps the record for ever (reactors do).
    """

    key: UUID
    fingerprint: bytes = b""
    refs: Mapping[str, str] = {}
    expires_at: datetime | None = None


class Done(msgspec.Struct, frozen=True):
    """The record of an append that happened: what Once said, and the position of its last event."""

    key: UUID
    fingerprint: bytes
    refs: Mapping[str, str]
    position: int
    answer: bytes | None = None


class Appended(msgspec.Struct, frozen=True):
    """Where an append landed: the positions of its first and last event, its time, and the events' ids in order."""

    first_position: int
    position: int
    recorded_at: datetime
    event_ids: Sequence[UUID]


class Envelope(msgspec.Struct, frozen=True):
    """All that an event carries beside its payload.

    `occurred_at` is when it was decided, by the clock of the process that decided: what is dated and decided by.
    `recorded_at` is the log's time, which never runs backwards: it only says the order, as the position does. An event
    of an older release has no other time, and occurred when it was recorded.
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
    """An event as it stands in the log. Satisfies the `eventsourcing` library's DomainEventProtocol."""

    env: Envelope
    event: Any

    @property
    def originator_id(self) -> UUID:
        """The stream, by the name that the eventsourcing library gives it."""
        return self.env.stream_id

    @property
    def originator_version(self) -> int:
        """The version, by the name that the eventsourcing library gives it."""
        return self.env.version


class VersionConflict(Exception):
    """A stream was not at the expected version: somebody else appended first. Nothing of the append was kept.

    `stream_ids` are those of the append; one of them moved on, or one of its reads.
    """

    def __init__(self, stream_ids: Sequence[UUID]) -> None:
        super().__init__(f"stream moved on: {', '.join(map(str, stream_ids))}")
        self.stream_ids = stream_ids


class WrongKind(Exception):
    """Events for a stream that is of another kind than theirs. Nothing of the append was kept.

    A stream has one kind: that of its events (`eventstore.codec.kind_of`).
    """


class AlreadyDone(Exception):
    """The append's Once key is in the log already. Nothing was appended this time."""

    def __init__(self, done: Done) -> None:
        super().__init__(f"already done at position {done.position}")
        self.done = done


class TooLarge(Exception):
    """An event, or an append, beyond what the log takes. Nothing of the append was kept.

    `code` is event_too_large or append_too_large.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class LogUnavailable(Exception):
    """The log cannot be reached, or was closed. An append that meets this may have happened: its Once key will tell."""


class ClocksDiffer(LogUnavailable):
    """The clock of this process and that of the database are too far apart. Nothing was appended, and nothing will be
    until they agree again: a wrong time must not become history.

    `seconds` is by how much this process's clock is ahead; below 0: behind.
    """

    def __init__(self, seconds: float) -> None:
        ahead = "ahead of" if seconds > 0 else "behind"
        super().__init__(f"this process's clock is {abs(seconds):.1f} s {ahead} the database's: nothing was recorded")
        self.seconds = seconds


def check_appends(streams: Sequence[StreamAppend]) -> None:
    """Raises ValueError unless there are streams, each once, each with events: what every adapter asks of an append."""
    if not streams or not all(stream.events for stream in streams):
        raise ValueError("an append without events")
    if min(stream.expected_version for stream in streams) < 0:
        raise ValueError("a version below 0")
    if len({stream.stream_id for stream in streams}) < len(streams):
        raise ValueError("a stream twice in one append")


STREAM_PAGE = 1_000
"""Events of a stream that are read in one go: others have their turn in between. Large ones are fewer."""


class StreamReader(Protocol):
    """Who reads streams."""

    async def read_stream_page(
        self, stream_id: UUID, after_version: int = 0, *, upto: int | None = None, but: Sequence[str] = ()
    ) -> tuple[list[Recorded], bool]: ...


async def pages_of(
    log: StreamReader, stream_id: UUID, after_version: int = 0, *, upto: int | None = None, but: Sequence[str] = ()
) -> AsyncIterator[list[Recorded]]:
    """As `Log.read_stream`, in pages: none of a stream that has no such events."""
    more = True
    while more:
        page, more = await log.read_stream_page(stream_id, after_version, upto=upto, but=but)
        if page:
            yield page
            after_version = page[-1].env.version


async def whole_stream(log: StreamReader, stream_id: UUID, *, upto: int | None = None) -> list[Recorded]:
    """All of a stream up to a position, read in pages."""
    return [each async for page in pages_of(log, stream_id, upto=upto) for each in page]


class Keys(Protocol):
    """Keys that personal fields are encrypted under, one per person."""

    async def create(self, person_ids: Iterable[UUID]) -> None:
        """Give each a key if they have none."""
        ...

    async def get(self, person_ids: Iterable[UUID]) -> dict[UUID, bytes]:
        """The keys there are; the forgotten and the unknown are absent."""
        ...

    async def destroy(self, person_id: UUID) -> None:
        """Forget. There is no way back."""
        ...


class Log(StreamReader, Protocol):
    """An append-only log of streams with one order over all of them."""

    history: History

    @property
    def keys(self) -> Keys: ...

    async def append(
        self,
        streams: Sequence[StreamAppend],
        metadata: Metadata = ...,
        once: Once | None = None,
        reads: Sequence[StreamRead] = (),
    ) -> Appended:
        """Append to several streams, all or nothing, and only if the `reads` still hold at that moment.

        Raises VersionConflict, AlreadyDone, LogUnavailable (ClocksDiffer is one); WrongKind for events of another kind
        than their stream's; TooLarge; ValueError as `check_appends` does. A caller that is cancelled does not learn
        whether it was appended.
        """
        ...

    async def read(
        self, after: int = 0, *, upto: int | None = None, names: Sequence[str] | None = None, limit: int = 1000
    ) -> list[Recorded]:
        """Events with after < position ≤ upto in order, at most `limit`; only those of `names` when given."""
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
        """A stream's events above a version, in order, none beyond position `upto`, at most `limit`. Those of the names
        in `but` are left out, unless it is the last of all: that tells the version."""
        ...

    async def versions(self, stream_ids: Sequence[UUID]) -> list[int]:
        """The versions that these streams have reached, in the same order; 0 for one that does not exist."""
        ...

    async def head(self) -> int:
        """The position of the last event, 0 when there is none."""
        ...

    def subscribe(self, after: int = 0, *, names: Sequence[str] | None = None) -> AsyncGenerator[list[Recorded], None]:
        """Pages of events from a position on, for ever: what is there, then what comes."""
        ...

    async def done(self, key: UUID) -> Done | None:
        """The record of a Once key, if its append happened."""
        ...

    async def answer(self, key: UUID, answer: bytes) -> None:
        """Keep the answer that was given under a Once key, for replays."""
        ...

    async def purge_expired(self) -> int:
        """Drop the Once keys whose time is over, by the log's clock and by ours; returns how many."""
        ...
