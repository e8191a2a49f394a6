"""Hears of published jobs, for all consumers of a process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from eventstore.database.postgres import AWAY, connect_async
from kit.cancellation import cancel_until_ended, stop_if_cancelled

_LISTEN = "LISTEN ludoteca_queue"
"""Notified once per publishing, with the queue's name."""


class JobListener:
    """Wakes consumers when jobs are published, over one connection for all queues: PostgreSQL
    interrupts every connection that listens at every notification, whatever it is about, and each
    interruption takes 40 µs of the server. While there is no connection, polling stands in."""

    def __init__(self, url: str, poll_seconds: float = 1) -> None:
        """`url` leads to the database itself. The connection is checked, or made anew, every
        `poll_seconds`."""
        self._url = url
        self._poll_seconds = poll_seconds
        self._waiting: list[tuple[str, asyncio.Event]] = []
        self._listening: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def waking(self, queue: str, wake: asyncio.Event) -> AsyncIterator[None]:
        """Set the event when jobs of the queue are published, or may have been unheard."""
        waiting = (queue, wake)
        self._waiting.append(waiting)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.create_task(self._listen(), name="job listener")
        try:
            yield
        finally:
            self._waiting.remove(waiting)
            if not self._waiting:
                listening, self._listening = self._listening, None
                await cancel_until_ended([listening])

    def _wake(self, published: str | None = None) -> None:
        """Wake the consumers of a queue; by default, all."""
        for queue, wake in self._waiting:
            if published in (None, queue):
                wake.set()

    async def _listen(self) -> None:
        while True:
            stop_if_cancelled()
            with contextlib.suppress(*AWAY):
                async with await connect_async(self._url, "ludoteca queue") as conn:
                    await conn.execute(_LISTEN)
                    self._wake()
                    while True:
                        stop_if_cancelled()
                        async for notice in conn.notifies(timeout=self._poll_seconds):
                            self._wake(notice.payload)
                        # a mere listener would not notice a lost connection
                        await conn.execute("SELECT 1")
            await asyncio.sleep(self._poll_seconds)
