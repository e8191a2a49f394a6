"""Snapshots of long streams: a shortcut for loading, never the truth. One of another schema is a
miss.

A state with personal fields is sealed under the key of the stream's person, and is lost with the
key.
"""

from collections.abc import Callable, Mapping, Set
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from eventstore.codec import decrypt, encrypt
from eventstore.gathering import Gatherer
from eventstore.keys import PersonKeys

S = TypeVar("S")

_SELECT = """
SELECT s.stream_id, s.schema, s.state, s.version
FROM unnest(%s::uuid[], %s::text[]) AS wanted (stream_id, schema)
JOIN log.snapshots s USING (stream_id, schema)
WHERE (
    SELECT true FROM log.events e
    WHERE e.stream_id = s.stream_id AND e.version = s.version LIMIT 1
)
"""
"""A snapshot whose event is not in the log is of a history that the log no longer has. (Of a
join the planner may read all of the stream's events first.)"""

_SAVE = """
WITH of_other_schemas AS (
    DELETE FROM log.snapshots WHERE stream_id = %(stream_id)s AND schema <> %(schema)s
)
INSERT INTO log.snapshots (stream_id, schema, version, state)
VALUES (%(stream_id)s, %(schema)s, %(version)s, %(state)s)
ON CONFLICT (stream_id, schema) DO UPDATE
SET version = excluded.version, state = excluded.state
WHERE snapshots.version < excluded.version
"""


def plain(value: object) -> dict[Any, Any] | list[Any]:
    """An msgspec hook that encodes mappings and sets other than Python's own, such as the
    persistent ones in states. Raises NotImplementedError for anything else."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return list(value)
    raise NotImplementedError(f"no {type(value).__name__} in a state")


class Snapshots:
    """The last snapshot per stream and schema. States with personal fields must be `sealed`."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool
        self._keys = PersonKeys(pool)
        self._gatherer = Gatherer(self._select)

    async def load(
        self, stream_id: UUID, schema: str, state: type[S], *, sealed: bool = False
    ) -> tuple[S, int, int] | None:
        """State, version, and size in bytes; None when there is none that fits the state's shape
        and opens with the person's key."""
        wanted = (stream_id, schema)
        found = (await self._gatherer.get([wanted])).get(wanted)
        if found is None:
            return None
        stored, version = found
        key = (await self._keys.get([stream_id])).get(stream_id) if sealed else None
        try:
            encoded = stored if key is None else decrypt(stored.decode(), key, stream_id, schema)
            return (
                None
                if encoded is None
                else (msgspec.json.decode(encoded, type=state), version, len(stored))
            )
        except (msgspec.MsgspecError, ValueError):
            return None

    async def _select(
        self, wanted: list[tuple[UUID, str]]
    ) -> dict[tuple[UUID, str], tuple[bytes, int]]:
        """Stored states and versions of streams, each in a schema."""
        stream_ids, schemas = zip(*wanted, strict=True)
        async with self._pool.connection() as conn:
            cursor = await conn.execute(_SELECT, (list(stream_ids), list(schemas)))
            return {
                (stream_id, schema): (state, version)
                async for stream_id, schema, state, version in cursor
            }

    async def save(
        self,
        stream_id: UUID,
        schema: str,
        state: object,
        version: int,
        check: Callable[[], None] = lambda: None,
        *,
        sealed: bool = False,
    ) -> int:
        """Store a state unless a later one exists; deletes those of other schemas. Returns the size
        in bytes, or 0 when it would have to be sealed and the person has no key.

        `check` is called once a connection to the log is open, and raises if the state belongs to
        another history.
        """
        encoded = msgspec.json.encode(state, enc_hook=plain)
        if sealed:
            key = (await self._keys.get([stream_id])).get(stream_id)
            if key is None:
                return 0
            encoded = encrypt(encoded, key, stream_id, schema).encode()
        values = {"stream_id": stream_id, "schema": schema, "version": version, "state": encoded}
        async with self._pool.connection() as conn:
            check()
            await conn.execute(_SAVE, values)
        return len(encoded)
