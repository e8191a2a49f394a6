"""Wakes those who wait for changes of certain streams: one tail of the log per process, however
many wait."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Protocol
from uuid import UUID

from eventstore.database.postgres import AWAY
from eventstore.history import HistoryChanged
from eventstore.log import LogUnavailable
from eventstore.postgres_log import RETRY_SECONDS, PostgresLog
from kit.background import background_task
from kit.cancellation import stop_if_cancelled

_TAIL = """
SELECT position, stream_id FROM log.events WHERE position > %s ORDER BY position LIMIT 5000
"""


class StreamWatcher(Protocol):
    """Tells when streams grow."""

    def watching(self, stream_ids: Collection[UUID]) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set whenever one of these streams grows. Read the streams after
        entering, then wait."""
        ...

    def patience(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Wrap the waiting. Raises TimeoutError after these seconds, or when the process stops."""
        ...


class StreamFollower:
    """Follows the log while somebody watches, and wakes watchers when one of their streams
    grows."""

    def __init__(self, log: PostgresLog) -> None:
        self._log = log
        self._waiting: dict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self._watchers = 0
        self._watched = asyncio.Event()  # set while somebody watches
        self._following = asyncio.Event()
        self._generation = 0  # of the history that is followed
        self._stopping = False
        self._timeouts: set[asyncio.Timeout] = set()
        log.history.when_it_changes(self._wake_all)

    @asynccontextmanager
    async def watching(self, stream_ids: Collection[UUID]) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever one of these streams grows. Read the streams after
        entering, then wait."""
        if self._task is None or self._task.done():
            self._following.clear()
            self._task = background_task(self._follow(), "stream-follower")
        self._watchers += 1
        self._watched.set()
        news = asyncio.Event()
        try:
            await self._following.wait()
            for stream_id in stream_ids:
                self._waiting[stream_id].add(news)
            yield news
        finally:
            self._leave(news, stream_ids)

    @asynccontextmanager
    async def patience(self, seconds: float) -> AsyncIterator[None]:
        """Wrap the waiting. Raises TimeoutError after these seconds, or when the process stops."""
        async with asyncio.timeout(0 if self._stopping else seconds) as timeout:
            self._timeouts.add(timeout)
            try:
                yield
            finally:
                self._timeouts.discard(timeout)

    def end_waits(self) -> None:
        """Let nobody wait any longer: the process stops, and those who wait are to be answered."""
        self._stopping = True
        for timeout in self._timeouts:
            if not timeout.expired():
                timeout.reschedule(asyncio.get_running_loop().time())

    def _leave(self, news: asyncio.Event, stream_ids: Collection[UUID]) -> None:
        for stream_id in stream_ids:
            self._waiting[stream_id].discard(news)
            if not self._waiting[stream_id]:
                del self._waiting[stream_id]
        self._watchers -= 1
        if not self._watchers:
            self._watched.clear()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _wake_all(self) -> None:
        for waiting in self._waiting.values():
            for news in waiting:
                news.set()

    async def _follow(self) -> None:
        """Follow until the log is closed. Survives lost connections, and starts anew when the
        history changes."""
        position = -1
        with suppress(LogUnavailable):
            while True:
                stop_if_cancelled()
                if not self._watchers:
                    self._following.clear()
                    await self._watched.wait()
                    position = -1
                try:
                    position = await self._pass_on(position)
                except AWAY:
                    await asyncio.sleep(RETRY_SECONDS)
                except HistoryChanged:
                    position = -1

    async def _pass_on(self, position: int) -> int:
        """Wait for events after a position (-1: only determine the head) and wake their waiters.
        Returns the new position."""
        if position < 0:
            self._generation = self._log.history.generation
            position = await self._log.head()
            self._following.set()
            self._wake_all()  # earlier events were not seen
            return position
        await self._log.watcher.beyond(position, self._generation)
        async with self._log.pool.connection() as conn:
            cursor = conn.cursor(binary=True)
            rows = await (await cursor.execute(_TAIL, (position,), prepare=True)).fetchall()
        for position, stream_id in rows:  # noqa: B007 - the last one is returned
            for news in self._waiting.get(stream_id, ()):
                news.set()
        return position
