"""Turns at streams: in one process, decisions about the same stream are made one after another,
each on the state that the one before it leaves."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self
from uuid import UUID

from eventstore.precedence import Precedence


class Turns:
    """Who waits for, or has, the turn at which stream. Used from one event loop only."""

    def __init__(self, precedence: Precedence) -> None:
        """`precedence`: where this process gives way to another."""
        self.precedence = precedence
        self._locks: dict[UUID, tuple[asyncio.Lock, int]] = {}

    async def enter(self, stream_id: UUID) -> None:
        """Wait for the turn at a stream, and take it."""
        lock, users = self._locks.get(stream_id, (asyncio.Lock(), 0))
        self._locks[stream_id] = (lock, users + 1)
        try:
            await lock.acquire()
        except BaseException:
            self._leave(stream_id, lock)
            raise

    def leave(self, stream_id: UUID) -> None:
        """End the turn at a stream: the next one has it."""
        lock, _ = self._locks[stream_id]
        lock.release()
        self._leave(stream_id, lock)

    def _leave(self, stream_id: UUID, lock: asyncio.Lock) -> None:
        _, users = self._locks[stream_id]
        if users == 1:
            del self._locks[stream_id]
        else:
            self._locks[stream_id] = (lock, users - 1)


class Turn:
    """One caller's turn at several streams. Leaves them on exit."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._streams: list[UUID] = []

    async def take(self, stream_ids: Iterable[UUID]) -> bool:
        """Wait for the turn at these streams, in stream-id order to avoid deadlocks. No-op for who
        has a turn, even at other streams. Returns whether another process had precedence."""
        if self._streams:
            return False
        wanted, gave_way = sorted(set(stream_ids)), False
        while True:
            for stream_id in wanted:
                await self._turns.enter(stream_id)
                self._streams.append(stream_id)
            if not (seconds := self._turns.precedence.seconds_to_wait(wanted)):
                return gave_way
            self.leave()  # nobody waits at the other streams meanwhile
            await asyncio.sleep(seconds)
            gave_way = True

    def leave(self) -> None:
        """End the turn, if there is one."""
        streams, self._streams = self._streams, []
        for stream_id in streams:
            self._turns.leave(stream_id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()
