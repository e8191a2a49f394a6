"""Turns at streams: in one process, appends to the same stream go one after another, each decided
on the state that the one before it left."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from uuid import UUID


class Turns:
    """Who waits for, or has, the turn at which stream. Used from one event loop only."""

    def __init__(self) -> None:
        self._locks: dict[UUID, tuple[asyncio.Lock, int]] = {}

    async def wait(self, turns: AsyncExitStack, stream_ids: Sequence[UUID]) -> bool:
        """Wait for the turn at these streams, in stream-id order to avoid deadlocks; `turns` ends
        it. Returns whether another had or wanted it before; otherwise nothing happens meanwhile."""
        contended = not self._locks.keys().isdisjoint(stream_ids)
        for stream_id in sorted(set(stream_ids)):
            lock, users = self._locks.get(stream_id, (asyncio.Lock(), 0))
            self._locks[stream_id] = (lock, users + 1)
            turns.callback(self._leave, stream_id)
            await turns.enter_async_context(lock)
        return contended

    def _leave(self, stream_id: UUID) -> None:
        lock, users = self._locks[stream_id]
        if users == 1:
            del self._locks[stream_id]
        else:
            self._locks[stream_id] = (lock, users - 1)
