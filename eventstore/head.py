"""Tracks the log's head: one LISTEN connection per process, shared by all who wait."""

import asyncio
import logging
from contextlib import aclosing, suppress
from time import monotonic

import psycopg

from eventstore.database.connections import Watch
from eventstore.database.postgres import connect_async
from eventstore.history import History
from eventstore.log import LogUnavailable
from kit.background import background_task
from kit.cancellation import stop_if_cancelled

logger = logging.getLogger(__name__)

APPENDED = "ludoteca_log"
"""The channel that every append notifies."""

POLL_SECONDS = 1.0
"""How often the head is polled as well, since a notification may be lost with its connection."""


class HeadWatcher:
    """Wakes waiters when the log grows, or is found to have gone back. Starts on first use;
    reconnects. While nobody waits, it queries the head once in POLL_SECONDS, however fast the log
    grows."""

    def __init__(self, url: str, history: History, watch: Watch | None = None) -> None:
        self._url = url
        self._watched = watch
        self._history = history
        self._head = 0
        self._news = asyncio.Event()  # set and replaced at every change
        self._waiting = 0
        self._wanted = asyncio.Event()  # set while somebody waits
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
        self._waiting += 1
        self._wanted.set()
        try:
            while not self._closed and self._history.generation == of and self._head <= position:
                await self._news.wait()
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._wanted.clear()
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
                    await conn.execute(f"LISTEN {APPENDED}")
                    while True:
                        stop_if_cancelled()
                        # Query the head rather than trust the notification: a wake-up is a hint.
                        self._reached(await self._history.head(conn))
                        await self._until_news_are_wanted(conn)
            except psycopg.Error as error:
                logger.warning("lost sight of the log's head: %s", error)
                await asyncio.sleep(POLL_SECONDS)

    async def _until_news_are_wanted(self, conn: psycopg.AsyncConnection) -> None:
        """Wait until somebody waits and the log may have grown, for at most POLL_SECONDS."""
        until = monotonic() + POLL_SECONDS
        with suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._wanted.wait()
        left = max(0.0, until - monotonic())
        async with aclosing(conn.notifies(timeout=left)) as notifications:
            async for notification in notifications:
                if not is_known(notification.payload, self._head):
                    return

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


def is_known(payload: str, head: int) -> bool:
    """Whether a notification is about an append that the last query, which found this head, has
    seen: its payload is the head at that time."""
    return payload.isdecimal() and int(payload) <= head
