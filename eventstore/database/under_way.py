"""Work that all processes can see to be under way: a session of its own holds a lock for it, which
ends with the process, however that dies.

A process whose session was lost, as with a server that was restarted, may still be at work.
"""

from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from eventstore.database.locks import UNDER_WAY
from eventstore.database.postgres import connect, connect_async

_NAME = "ludoteca work under way"

_HOLD = b"""
SELECT pg_advisory_lock_shared(%s, hashtext(id::text)) FROM unnest(%s::uuid[]) AS work (id)"""

_NOT_HELD = b"""
SELECT id FROM unnest(%(ids)s::uuid[]) AS work (id) WHERE NOT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND classid = %(lock)s AND objsubid = 2
        AND objid = (hashtext(id::text)::bigint & 4294967295)::oid
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)"""


@asynccontextmanager
async def holding(url: str, ids: Collection[UUID]) -> AsyncIterator[None]:
    """Show that work with these ids is under way, in the body. Raises psycopg.Error before it."""
    conn = await connect_async(url, _NAME)
    try:
        await conn.execute(_HOLD, (UNDER_WAY, list(ids)))
        yield
    finally:
        await conn.close()


@contextmanager
def held(url: str, ids: Collection[UUID]) -> Iterator[None]:
    """As `holding`, for a body that is not asynchronous. Children that it forks hold it, too."""
    conn = connect(url, _NAME)
    try:
        conn.execute(_HOLD, (UNDER_WAY, list(ids)))
        yield
    finally:
        conn.close()


async def not_held(pool: AsyncConnectionPool, ids: Collection[UUID]) -> list[UUID]:
    """Which of these nobody holds."""
    async with pool.connection() as conn:
        rows = await conn.execute(_NOT_HELD, {"ids": list(ids), "lock": UNDER_WAY})
        return [row[0] for row in await rows.fetchall()]
