"""Encodes appends for the database: events as stored, personal fields under their person's key."""

from collections.abc import Sequence
from typing import NamedTuple

from eventstore.append.pending import Pending
from eventstore.codec import Codec, kind_of_all
from eventstore.flight import Flight
from eventstore.history import History
from eventstore.keys import PersonKeys
from eventstore.log import IdempotencyKey, Metadata, StreamAppend, StreamRead, VersionConflict
from kit.clock import Clock


class Encoded(NamedTuple):
    """A stream's new events: their kind, names and payloads as stored."""

    stream: StreamAppend
    kind: str
    events: list[tuple[str, bytes]]


class Encoder:
    """Encodes appends of one process."""

    def __init__(self, codec: Codec, keys: PersonKeys, history: History, clock: Clock) -> None:
        self._codec = codec
        self._keys = keys
        self._history = history
        self._clock = clock

    async def encode(
        self,
        streams: Sequence[StreamAppend],
        metadata: Metadata,
        once: IdempotencyKey | None,
        reads: Sequence[StreamRead],
        flight: Flight,
    ) -> Pending:
        """An append in wire format. Raises as `payloads`; TooLarge."""
        occurred_at = self._clock.now()
        encoded = await self.payloads(streams)
        pending = Pending(metadata, occurred_at, once, reads, flight)
        for stream, kind, events in encoded:
            pending.add(stream.stream_id, stream.expected_version, kind, events)
        return pending

    async def payloads(self, streams: Sequence[StreamAppend]) -> list[Encoded]:
        """The events of each stream as they are stored. Raises VersionConflict when the log went
        back meanwhile; MissingKey when a person was forgotten; WrongKind."""
        codec, generation = self._codec, self._history.generation
        persons = {
            person
            for stream in streams
            for event in stream.events
            if (person := codec.person_of(event, stream.stream_id)) is not None
        }
        keys = await self._keys.get(persons) if persons else {}
        if generation != self._history.generation:
            raise VersionConflict([stream.stream_id for stream in streams])
        encoded = []
        for stream in streams:
            events: list[tuple[str, bytes]] = []
            kind = kind_of_all(stream.events)
            for event in stream.events:
                key = keys.get(codec.person_of(event, stream.stream_id)) if keys else None  # type: ignore[arg-type]
                events.append((event.NAME, codec.encode(event, stream.stream_id, key)))  # type: ignore[attr-defined]
            encoded.append(Encoded(stream, kind, events))
        return encoded
