"""Knows how far the log goes: one LISTEN connection per process, shared by all who wait."""

import asyncio
import logging

import psycopg

from eventstore.cancellation import stop_if_cancelled
from eventstore.log import LogUnavailable
from eventstore.postgres import connect_async

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""A notification may be lost with its connection; so often the head is looked up all the same."""


class HeadWatcher:
    """Wakes waiters when the log grows. Starts on first use; reconnects by itself."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._head = 0
        self._grown = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def beyond(self, position: int) -> int:
        """Wait until the log has an event after `position`; returns the head. Raises LogUnavailable once closed."""
        if not self._closed and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._watch(), name="head-watcher")
        async with self._grown:
            await self._grown.wait_for(lambda: self._head > position or self._closed)
        if self._closed:
            raise LogUnavailable("the log is closed")
        return self._head

    async def close(self) -> None:
        """Stop listening, and tell those who still wait."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        async with self._grown:
            self._grown.notify_all()

    async def _watch(self) -> None:
        while True:
            try:
                async with await connect_async(self._url, "ludoteca head") as conn:
                    await conn.execute("LISTEN ludoteca_log")
                    while True:
                        stop_if_cancelled()
                        # Asked, not taken from the notification: a wake-up is a hint, the log is the truth.
                        row = await (await conn.execute("SELECT max(position) FROM log.events")).fetchone()
                        await self._reached(row[0] if row and row[0] else 0)
                        async for _ in conn.notifies(timeout=POLL_SECONDS, stop_after=1):
                            pass
            except psycopg.Error as error:
                log.warning("lost sight of the log's head: %s", error)
                await asyncio.sleep(POLL_SECONDS)

    async def _reached(self, head: int) -> None:
        if head > self._head:
            async with self._grown:
                self._head = head
                self._grown.notify_all()
