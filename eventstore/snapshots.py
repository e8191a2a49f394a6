"""Snapshots of long streams: a shortcut for loading, never the truth. One of another schema is a miss."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

S = TypeVar("S")


def plain(value: object) -> dict[Any, Any]:
    """For msgspec: a mapping of another make than Python's own, such as a state has that shares it with the next.

    Raises NotImplementedError for anything else.
    """
    if isinstance(value, Mapping):
        return dict(value)
    raise NotImplementedError(f"no {type(value).__name__} in a state")


class Snapshots:
    """The last snapshot per stream and schema. States with personal fields must not be kept here: they are plain."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def load(self, stream_id: UUID, schema: str, state: type[S]) -> tuple[S, int, int] | None:
        """The state, its version, and its size in bytes; None when there is none that fits the state's shape."""
        async with self._pool.connection() as conn:
            cursor = await conn.execute(
                "SELECT s.state, s.version FROM log.snapshots s JOIN log.events e USING (stream_id, version)"
                " WHERE s.stream_id = %s AND s.schema = %s",
                (stream_id, schema),
            )
            row = await cursor.fetchone()
        try:
            return None if row is None else (msgspec.json.decode(row[0], type=state), row[1], len(row[0]))
        except msgspec.MsgspecError:
            return None

    async def save(
        self, stream_id: UUID, schema: str, state: object, version: int, check: Callable[[], None] = lambda: None
    ) -> int:
        """Keep a state, unless a later one is there; drops those of other schemas. Returns its size in bytes.

        `check` is called once there is a connection to the log as it is now, and raises if the state is not of it.
        """
        encoded = msgspec.json.encode(state, enc_hook=plain)
        async with self._pool.connection() as conn, conn.transaction():
            check()
            await conn.execute("DELETE FROM log.snapshots WHERE stream_id = %s AND schema <> %s", (stream_id, schema))
            await conn.execute(
                "INSERT INTO log.snapshots (stream_id, schema, version, state) VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (stream_id, schema) DO UPDATE SET version = excluded.version, state = excluded.state"
                " WHERE snapshots.version < excluded.version",
                (stream_id, schema, version, encoded),
            )
        return len(encoded)
