"""Keys of persons, and the program's own secrets; both live outside the log."""

from collections.abc import Callable, Iterable
from os import urandom
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool

from eventstore.gathering import Gatherer

_CREATE = """
INSERT INTO private.person_keys (person_id, key)
SELECT * FROM unnest(%s::uuid[], %s::bytea[])
ON CONFLICT (person_id) DO NOTHING
"""
_SELECT = "SELECT person_id, key FROM private.person_keys WHERE person_id = ANY (%s)"
_DESTROY = "DELETE FROM private.person_keys WHERE person_id = %s"

_CREATE_NAMED = """
INSERT INTO private.secrets (name, value) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING
"""
_SELECT_NAMED = "SELECT value FROM private.secrets WHERE name = %s"


class PersonKeys:
    """One 256-bit key per person. Destroying it makes the person's fields unreadable in every copy
    of the log."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._gatherer = Gatherer(self._select)

    async def create(self, person_ids: Iterable[UUID]) -> None:
        """Create a key for each person without one. Committed on return, and thus before the
        person's first event."""
        ids = list(person_ids)
        async with self._pool.connection() as conn:
            await conn.execute(_CREATE, (ids, [urandom(32) for _ in ids]))

    async def get(self, person_ids: Iterable[UUID]) -> dict[UUID, bytes]:
        """The existing keys; forgotten and unknown persons are absent."""
        wanted = set(person_ids)
        found = await self._gatherer.get(wanted)
        return {person_id: found[person_id] for person_id in wanted if person_id in found}

    async def _select(self, person_ids: list[UUID]) -> dict[UUID, bytes]:
        async with self._pool.connection() as conn:
            return dict(await (await conn.execute(_SELECT, (person_ids,))).fetchall())

    async def close(self) -> None:
        """Cancel whoever waits for keys."""
        await self._gatherer.close()

    async def destroy(self, person_id: UUID) -> None:
        """Destroy the person's key. Irreversible."""
        async with self._pool.connection() as conn:
            await conn.execute(_DESTROY, (person_id,))


def keys_now(conn: psycopg.Connection, person_ids: Iterable[UUID]) -> dict[UUID, bytes]:
    """As PersonKeys.get, for code in threads (the projection engine)."""
    return dict(conn.execute(_SELECT, (list(person_ids),)).fetchall())


async def secret(pool: AsyncConnectionPool, name: str, make: Callable[[], bytes]) -> bytes:
    """The program's secret with this name, created on first use; all processes get the same
    value."""
    async with pool.connection() as conn:
        while (row := await (await conn.execute(_SELECT_NAMED, (name,))).fetchone()) is None:
            await conn.execute(_CREATE_NAMED, (name, make()))  # not again: it may be read-only
    value: bytes = row[0]
    return value
