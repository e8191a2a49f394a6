"""Leadership: one process does a job for as long as its session holds a lock and shows that it is
alive.

A leader's session runs a statement every second or two. A process that hangs (stopped, swapped out,
in a loop) keeps its session and its lock, so a challenger terminates the session once it has been
silent for too long.
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

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""How often a challenger tries to lead, and how often a leader shows that it is alive."""

SILENT_SECONDS = 15.0
"""How long a leader's session may be idle before it is terminated. The leader's statements must be
closer together than this: folding a page takes less, and a wait for Elasticsearch runs one after
each of its answers."""


CLOSE_SECONDS = 5.0
"""How long closing a connection waits while a thread executes a statement on it."""


LOCK_TIMEOUT = "1s"
"""How long a leader waits for a lock that somebody holds: what else it does over the same
connection waits with it, and a waiting session counts as active, so nobody would terminate it."""


PLANNED_ONCE = "SET plan_cache_mode = force_generic_plan"
"""For connections that run the same statements for every event. PostgreSQL assumes that an unknown
array is long, so custom plans look cheaper: it planned every execution, which took longer than
executing."""


def connect_leader(url: str, name: str) -> psycopg.Connection:
    """A connection to lead with. Raises psycopg.OperationalError; its statements,
    psycopg.errors.LockNotAvailable."""
    return connect(url, name, lock_timeout=LOCK_TIMEOUT)


class Challenger:
    """Terminates the sessions of silent leaders. It relies only on changes of a session and on its
    own monotonic time between looks, so that jumping clocks do no harm."""

    def __init__(self) -> None:
        self._since: dict[tuple[int, datetime], float] = {}

    def look(self, conn: psycopg.Connection, names: Sequence[str]) -> None:
        """Look at the leaders of these names. To be called about once a second."""
        # before the query: if this process is stopped in between, no session looks older
        now = monotonic()
        quiet = checkpoints.idle_leaders(conn, names) if names else []
        self._since = {session: self._since.get(session, now) for session in quiet}
        for (pid, changed), since in self._since.items():
            if now - since > SILENT_SECONDS and checkpoints.end_session(conn, pid, changed):
                logger.warning(
                    "ended session %s, which leads what we would, and has been silent since %s",
                    pid,
                    changed,
                )


@asynccontextmanager
async def connected(url: str, name: str) -> AsyncIterator[psycopg.Connection]:
    """A connection to lead with, used by threads: closed once no statement is running, as
    cancellation leaves the thread running. Raises psycopg.OperationalError."""
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
    """Wait until nobody else leads `name`, then lead it. When the lead is lost, the body is
    cancelled.

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
