"""Being the one process that does a thing: for as long as a session holds a lock, and shows that it lives.

A leader's session runs a statement every second or two. A process that stands still (stopped, swapped out, in a loop)
keeps its session and its lock: whoever would lead in its place ends the session once it has been silent for long.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from time import monotonic

import psycopg

from eventstore.consumers import checkpoints
from eventstore.database.postgres import connect
from eventstore.database.release import require_current

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""How often who would lead looks whether it may; and how often a leader shows that it lives."""

SILENT_SECONDS = 15.0
"""After so long without a statement a leader's session is ended. So its statements must not lie farther apart: folding
a page takes less, and who waits for Elasticsearch runs one after each of its answers."""


CLOSE_SECONDS = 5.0
"""How long a connection that is to be closed is waited for, while a thread has a statement under way on it."""


LOCK_TIMEOUT = "10s"
"""How long a leader waits for a lock: a session that waits is at work, and would be ended by nobody."""


PLANNED_ONCE = "SET plan_cache_mode = force_generic_plan"
"""For a connection that runs the same statements for each event. PostgreSQL takes an array that it does not know for a
long one, so that a plan for each one looks cheaper: it planned anew each time, for longer than it ran."""


def connect_leader(url: str, name: str) -> psycopg.Connection:
    """A connection to lead with. Raises psycopg.OperationalError; its statements psycopg.errors.LockNotAvailable."""
    return connect(url, name, lock_timeout=LOCK_TIMEOUT)


class Challenger:
    """Ends the sessions of silent leaders. What counts is only whether a session changes, and our own time between
    looks: clocks that jump do no harm."""

    def __init__(self) -> None:
        self._since: dict[tuple[int, datetime], float] = {}

    def look(self, conn: psycopg.Connection, names: Sequence[str]) -> None:
        """To be called every second or so, with what others lead."""
        now = monotonic()  # before asking: should we be stopped in between, nobody looks older for it
        quiet = checkpoints.quiet_leaders(conn, names) if names else []
        self._since = {session: self._since.get(session, now) for session in quiet}
        for (pid, changed), since in self._since.items():
            if now - since > SILENT_SECONDS and checkpoints.end_session(conn, pid, changed):
                log.warning("ended session %s, which leads what we would, and has been silent since %s", pid, changed)


@asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[psycopg.Connection]:
    """A connection to lead with, by statements in threads: it is closed once none is under way, for who is cancelled
    leaves his thread behind. Raises psycopg.OperationalError."""
    conn = await asyncio.to_thread(connect_leader, url, name)
    try:
        yield conn
    finally:
        await asyncio.to_thread(_close, conn)


def _close(conn: psycopg.Connection) -> None:
    free = conn.lock.acquire(timeout=CLOSE_SECONDS)
    try:
        conn.close()
    finally:
        if free:
            conn.lock.release()


@asynccontextmanager
async def leading(url: str, name: str) -> AsyncIterator[psycopg.Connection]:
    """Wait until nobody else leads `name`, then lead it. When the lead is lost, what is done meanwhile is cancelled.

    Raises an ExceptionGroup of psycopg.Error or OutdatedRelease: to be caught by `except*`.
    """
    async with connected(url, "ludoteca leader") as conn, asyncio.TaskGroup() as group:
        challenger = Challenger()
        while not await asyncio.to_thread(checkpoints.try_lead, conn, name):
            await asyncio.to_thread(challenger.look, conn, [name])
            await asyncio.sleep(RETRY_SECONDS)
        beating = group.create_task(_beat(conn))
        yield conn
        beating.cancel()


async def _beat(conn: psycopg.Connection) -> None:
    while True:
        await asyncio.to_thread(require_current, conn)
        await asyncio.sleep(RETRY_SECONDS)
