"""The search for a server that can be written to, while one that only reads is in use."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import psycopg

from eventstore.database.connections import AsyncConnection
from eventstore.database.pooled import MAKESHIFT_SECONDS
from eventstore.database.ways import Ways
from kit.cancellation import cancelled, stop_if_cancelled

Found = tuple[AsyncConnection, Ways]
"""A connection to a writable server, and the ways of which the current one leads there."""


class WritableSearch:
    """Looks for a writable server in a task of its own, as servers that hang take their time to be
    ruled out. Used from one event loop only."""

    def __init__(self, all_ways: Callable[[], Ways]) -> None:
        self._all_ways = all_ways
        self._task: asyncio.Task[Found] | None = None

    def found(self) -> Found | None:
        """What was found by now, which is the caller's from then on. None while the search, which
        this begins, goes on."""
        if self._task is None:
            self._task = asyncio.create_task(
                self._search(), name="database-watch: a server that can be written to"
            )
        if not self._task.done():
            return None
        found = self._task.result()
        self._task = None
        return found

    async def stop(self) -> None:
        """End the search, and close what it found."""
        task = self._task
        self._task = None
        for found in await cancelled([task]):
            if isinstance(found, tuple):
                found[0].pgconn.finish()

    async def _search(self) -> Found:
        ways = self._all_ways()
        while True:
            await asyncio.sleep(MAKESHIFT_SECONDS)
            ways.begin_anew()
            while ways.is_first_choice:
                stop_if_cancelled()
                with suppress(TimeoutError, psycopg.Error, OSError):
                    conn = await ways.connect()
                    ways.answered()
                    return conn, ways
                ways.failed()
