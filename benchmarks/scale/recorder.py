"""Events of a made-up history, with envelopes as a shop would write them."""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from domain import ledger
from domain.events import Event


class Made(msgspec.Struct, gc=False):
    """An event to be written: its stream, and what the envelope says of it. Events of one append
    have the same time."""

    stream_id: UUID
    event: Event
    at: datetime
    actor: str
    event_id: UUID
    correlation_id: UUID | None
    causation_id: UUID | None


class Recorder:
    """Makes events at the history's own time, `now`, which each append takes a millisecond on."""

    def __init__(self, chance: random.Random, now: datetime) -> None:
        self._random = chance
        self.now = now

    def one(self, stream_id: UUID, event: Event, actor: str, cause: Made | None = None) -> Made:
        return self.append(actor, cause)(stream_id, event)

    def append(self, actor: str, cause: Made | None = None) -> "Append":
        self.now += timedelta(milliseconds=1)
        return Append(self, actor, cause, self.now)

    def new_id(self) -> UUID:
        """A UUIDv7 of the history's time."""
        ms = int(self.now.timestamp() * 1000)
        low = self._random.getrandbits(74)
        high = ms << 16 | 0x7 << 12 | low >> 62
        return UUID(int=high << 64 | 0b10 << 62 | low & ((1 << 62) - 1))

    def posting(self, cause: Made, entries: Sequence[ledger.Entry], **about: UUID) -> Made:
        (posted,) = ledger.post(None, cause.event_id, entries, **about)
        return self.one(ledger.transaction_id(cause.event_id), posted, "reactor:ledger", cause)


class Append:
    """One append: its events have the same time, actor and cause."""

    def __init__(self, recorder: Recorder, actor: str, cause: Made | None, now: datetime) -> None:
        self._new_id = recorder.new_id
        self._actor = actor
        self._now = now
        self._causation = None if cause is None else cause.event_id
        self._correlation = self._new_id() if cause is None else cause.correlation_id

    def __call__(self, stream_id: UUID, event: Event) -> Made:
        return Made(
            stream_id,
            event,
            self._now,
            self._actor,
            self._new_id(),
            self._correlation,
            self._causation,
        )
