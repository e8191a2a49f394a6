"""Turns at contended streams: in one process, decisions on the same stream go one after another."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from uuid import UUID


class Turns:
    """Who waits for, or has, the turn at which stream. Used from one event loop only."""

    def __init__(self) -> None:
        self._locks: dict[UUID, tuple[asyncio.Lock, int]] = {}

    def taken(self, stream_id: UUID) -> bool:
        """Whether a decision waits for this stream, or has the turn at it."""
        return stream_id in self._locks

    async def wait(self, turns: AsyncExitStack, stream_ids: Sequence[UUID]) -> None:
        """Wait for the turn at these streams, in stream-id order to avoid deadlocks; `turns` ends
        it."""
        for stream_id in sorted(set(stream_ids)):
            lock, users = self._locks.get(stream_id, (asyncio.Lock(), 0))
            self._locks[stream_id] = (lock, users + 1)
            turns.callback(self._leave, stream_id)
            await turns.enter_async_context(lock)

    def _leave(self, stream_id: UUID) -> None:
        lock, users = self._locks[stream_id]
        if users == 1:
            del self._locks[stream_id]
        else:
            self._locks[stream_id] = (lock, users - 1)
