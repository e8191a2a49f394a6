"""Knows how far the log goes: one LISTEN connection per process, shared by all who wait."""

import asyncio

import psycopg

POLL_SECONDS = 1.0
"""A notification may be lost with its connection; so often the head is looked up all the same."""


class HeadWatcher:
    """Wakes waiters when the log grows. Starts on first use; reconnects by itself."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._head = 0
        self._grown = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None

    async def beyond(self, position: int) -> int:
        """Wait until the log has an event after `position`; returns the head."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch(), name="head-watcher")
        async with self._grown:
            await self._grown.wait_for(lambda: self._head > position)
        return self._head

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, application_name="ludoteca head"
                ) as conn:
                    await conn.execute("LISTEN ludoteca_log")
                    while True:
                        row = await (await conn.execute("SELECT max(position) FROM log.events")).fetchone()
                        await self._reached(row[0] if row and row[0] else 0)
                        async for note in conn.notifies(timeout=POLL_SECONDS):
                            await self._reached(int(note.payload))
            except psycopg.OperationalError:
                await asyncio.sleep(POLL_SECONDS)

    async def _reached(self, head: int) -> None:
        if head > self._head:
            async with self._grown:
                self._head = head
                self._grown.notify_all()
