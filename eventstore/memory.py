"""What logs in memory share, as processes share a database (`eventstore.memory_log`)."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime
from os import urandom
from uuid import UUID

from eventstore.amendments import NONE, Amendments
from eventstore.log import Envelope, IdempotencyRecord
from kit.clock import SYSTEM_CLOCK, Clock

Row = tuple[Envelope, bytes]


class Memory:
    """What several logs share, as processes share a database.

    `clock` says when events are recorded.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self.rows: list[Row] = []
        """All events with their payloads; an event's position is its index + 1."""
        self.streams: defaultdict[UUID, list[Row]] = defaultdict(list)
        self.done: dict[UUID, tuple[IdempotencyRecord, datetime | None]] = {}
        """The records of idempotency keys, with their expiry."""
        self.keys: dict[UUID, bytes] = {}
        self.waiting: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        """Waiters by stream."""
        self._news = asyncio.Event()

    @property
    def news(self) -> asyncio.Event:
        """Set at the next append, or when a log is closed."""
        return self._news

    def wake(self) -> None:
        """Wake all subscriptions."""
        news = self._news
        self._news = asyncio.Event()
        news.set()

    def version(self, stream_id: UUID) -> int:
        """The stream's current version, 0 when it does not exist."""
        return len(self.streams.get(stream_id, ()))


class MemoryKeys:
    """One 256-bit key per person."""

    def __init__(self, memory: Memory) -> None:
        self._keys = memory.keys

    async def create(self, person_ids: Iterable[UUID]) -> None:
        """Create a key for each person without one."""
        for person_id in person_ids:
            self._keys.setdefault(person_id, urandom(32))

    async def get(self, person_ids: Iterable[UUID]) -> dict[UUID, bytes]:
        """The existing keys; forgotten and unknown persons are absent."""
        return {
            person_id: self._keys[person_id] for person_id in person_ids if person_id in self._keys
        }

    async def destroy(self, person_id: UUID) -> None:
        """Destroy the person's key. Irreversible."""
        self._keys.pop(person_id, None)


class NothingAmended:
    """Nobody declares anything about the events of a log in memory."""

    now: Amendments = NONE

    def when_they_change(self, listener: Callable[[], None]) -> None:
        """They never change."""
