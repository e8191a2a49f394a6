"""Keys of persons, and the program's own secrets; both live outside the log, wrapped by a master
key (`eventstore.master_keys`)."""

from collections.abc import Callable, Iterable, Sequence
from os import urandom
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool

from eventstore.gathering import Gatherer
from eventstore.master_keys import KEYRING, of_person, of_secret

_CURRENT = "SELECT key_id FROM private.master_keys WHERE is_current"
_CREATE = f"""
WITH current AS ({_CURRENT}), made AS (
    INSERT INTO private.person_keys (person_id, key)
    SELECT * FROM unnest(%s::uuid[], %s::bytea[])
    WHERE (SELECT key_id FROM current) IS NOT DISTINCT FROM %s::bytea
    ON CONFLICT (person_id) DO NOTHING
)
SELECT key_id FROM current
"""
"""Nothing is inserted that another master key than the current one wraps."""
_SELECT = "SELECT person_id, key FROM private.person_keys WHERE person_id = ANY (%s)"
_DESTROY = """
WITH gone AS (DELETE FROM private.person_keys WHERE person_id = %(person_id)s)
INSERT INTO private.erasures (person_id, position)
SELECT %(person_id)s, coalesce(max(position), 0) FROM log.events
ON CONFLICT (person_id) DO UPDATE SET position = greatest(erasures.position, excluded.position)
"""

_CREATE_NAMED = f"""
INSERT INTO private.secrets (name, value)
SELECT %s::text, %s::bytea WHERE ({_CURRENT}) IS NOT DISTINCT FROM %s::bytea
ON CONFLICT (name) DO NOTHING
"""
_SELECT_NAMED = f"""
SELECT (SELECT value FROM private.secrets WHERE name = %s), ({_CURRENT})
"""


class PersonKeys:
    """One 256-bit key per person. Destroying it makes the person's fields unreadable in every copy
    of the log."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._gatherer = Gatherer(self._select)
        self._master_key_id: bytes | None = None  # the current one, when a key was last made

    async def create(self, person_ids: Iterable[UUID]) -> None:
        """Create a key for each person without one. Committed on return, and thus before the
        person's first event."""
        ids = list(person_ids)
        async with self._pool.connection() as conn:
            while True:
                used = self._master_key_id
                made = [KEYRING.wrap(urandom(32), used, of_person(each)) for each in ids]
                row = await (await conn.execute(_CREATE, (ids, made, used))).fetchone()
                self._master_key_id = None if row is None else row[0]
                if self._master_key_id == used:
                    return

    async def get(self, person_ids: Iterable[UUID]) -> dict[UUID, bytes]:
        """The existing keys; forgotten and unknown persons are absent."""
        wanted = set(person_ids)
        found = await self._gatherer.get(wanted)
        return {person_id: found[person_id] for person_id in wanted if person_id in found}

    async def _select(self, person_ids: list[UUID]) -> dict[UUID, bytes]:
        async with self._pool.connection() as conn:
            return _unwrapped(await (await conn.execute(_SELECT, (person_ids,))).fetchall())

    async def close(self) -> None:
        """Cancel whoever waits for keys."""
        await self._gatherer.close()

    async def destroy(self, person_id: UUID) -> None:
        """Destroy the person's key. Irreversible. The disk has traces of it until they are erased
        (`eventstore.erasing`)."""
        async with self._pool.connection() as conn:
            await conn.execute(_DESTROY, {"person_id": person_id})


def _unwrapped(rows: Sequence[tuple[UUID, bytes]]) -> dict[UUID, bytes]:
    return {person_id: KEYRING.unwrap(key, of_person(person_id)) for person_id, key in rows}


def keys_now(conn: psycopg.Connection, person_ids: Iterable[UUID]) -> dict[UUID, bytes]:
    """As PersonKeys.get, for code in threads (the projection engine)."""
    return _unwrapped(conn.execute(_SELECT, (list(person_ids),)).fetchall())


async def secret(pool: AsyncConnectionPool, name: str, make: Callable[[], bytes]) -> bytes:
    """The program's secret with this name, created on first use; all processes get the same
    value."""
    async with pool.connection() as conn:
        while True:
            row = await (await conn.execute(_SELECT_NAMED, (name,))).fetchone()
            value, current = row if row is not None else (None, None)
            if value is not None:  # asked first, as the database may be read-only
                return KEYRING.unwrap(value, of_secret(name))
            made = KEYRING.wrap(make(), current, of_secret(name))
            await conn.execute(_CREATE_NAMED, (name, made, current))
