"""Tracks the log's head: one LISTEN connection per process, shared by all who wait."""

import asyncio
import logging

import psycopg

from eventstore.database.connections import Watch
from eventstore.database.postgres import connect_async
from eventstore.history import History
from eventstore.log import LogUnavailable
from kit.background import background_task
from kit.cancellation import stop_if_cancelled

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How often the head is polled as well, since a notification may be lost with its connection."""


class HeadWatcher:
    """Wakes waiters when the log grows, or is found to have gone back. Starts on first use;
    reconnects."""

    def __init__(self, url: str, history: History, watch: Watch | None = None) -> None:
        self._url = url
        self._watched = watch
        self._history = history
        self._head = 0
        self._news = asyncio.Event()  # set and replaced at every change
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        history.when_it_changes(self._forget)

    async def beyond(self, position: int, generation: int | None = None) -> int:
        """Wait until the log has an event after `position`. Returns the head.

        Raises LogUnavailable once closed; HistoryChanged when the log is no longer of the
        generation in which the position was read (default: the current one).
        """
        of = self._history.generation if generation is None else generation
        if not self._closed and (self._task is None or self._task.done()):
            self._task = background_task(self._watch(), "head-watcher")
        while not self._closed and self._history.generation == of and self._head <= position:
            await self._news.wait()
        if self._closed:
            raise LogUnavailable("the log is closed")
        self._history.must_be(of)
        return self._head

    async def close(self) -> None:
        """Stop listening, and raise LogUnavailable to all who wait."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._wake()

    async def _watch(self) -> None:
        while True:
            try:
                async with await connect_async(
                    self._url, "ludoteca head", watch=self._watched
                ) as conn:
                    await self._history.check(conn)
                    await conn.execute("LISTEN ludoteca_log")
                    while True:
                        stop_if_cancelled()
                        # Query the head rather than trust the notification: a wake-up is a hint.
                        self._reached(await self._history.head(conn))
                        async for _ in conn.notifies(timeout=POLL_SECONDS, stop_after=1):
                            pass
            except psycopg.Error as error:
                logger.warning("lost sight of the log's head: %s", error)
                await asyncio.sleep(POLL_SECONDS)

    def _reached(self, head: int) -> None:
        if head > self._head:
            self._head = head
            self._wake()

    def _forget(self) -> None:
        self._head = 0
        self._wake()

    def _wake(self) -> None:
        news = self._news
        self._news = asyncio.Event()
        news.set()
