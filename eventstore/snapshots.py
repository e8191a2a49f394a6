"""Snapshots of long streams: a shortcut for loading, never the truth. One of another schema is a miss."""

from typing import TypeVar
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

S = TypeVar("S")


class Snapshots:
    """The last snapshot per stream and schema. States with personal fields must not be kept here: they are plain."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def load(self, stream_id: UUID, schema: str, state: type[S]) -> tuple[S, int] | None:
        """The state and its version, or None; one that does not fit the state's shape is as good as none."""
        async with self._pool.connection() as conn:
            cursor = await conn.execute(
                "SELECT state, version FROM log.snapshots WHERE stream_id = %s AND schema = %s", (stream_id, schema)
            )
            row = await cursor.fetchone()
        try:
            return None if row is None else (msgspec.json.decode(row[0], type=state), row[1])
        except msgspec.MsgspecError:
            return None

    async def save(self, stream_id: UUID, schema: str, state: object, version: int) -> None:
        """Keep a state, unless a later one is there; drops those of other schemas."""
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute("DELETE FROM log.snapshots WHERE stream_id = %s AND schema <> %s", (stream_id, schema))
            await conn.execute(
                "INSERT INTO log.snapshots (stream_id, schema, version, state) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (stream_id, schema) DO UPDATE SET version = excluded.version, state = excluded.state"
                " WHERE snapshots.version < excluded.version",
                (stream_id, schema, version, msgspec.json.encode(state)),
            )
