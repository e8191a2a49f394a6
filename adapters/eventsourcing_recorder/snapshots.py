"""The library's snapshots in our table of snapshots, one row per version: they are a shortcut, and
never the truth."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.eventsourcing_recorder.opaque_log import Opaque

_PUT = """
INSERT INTO log.snapshots (stream_id, schema, version, state)
SELECT * FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::bytea[])"""
_GET = """
SELECT version, state FROM log.snapshots
WHERE stream_id = %s AND starts_with(schema, %s) AND version > %s AND version <= %s
ORDER BY version """


class _State(msgspec.Struct, array_like=True):
    name: str
    payload: bytes


async def put(pool: AsyncConnectionPool, collection: str, taken: Sequence[Opaque]) -> None:
    """Store snapshots, all or nothing. Raises psycopg.IntegrityError if one is there."""
    rows = [
        (
            each.stream_id,
            f"{_prefix(collection)}{each.version}",
            each.version,
            msgspec.msgpack.encode(_State(each.name, each.payload)),
        )
        for each in taken
    ]
    async with pool.connection() as conn:
        await conn.execute(_PUT, [list(column) for column in zip(*rows, strict=True)])


async def get(
    pool: AsyncConnectionPool,
    collection: str,
    stream_id: UUID,
    *,
    gt: int,
    lte: int,
    desc: bool,
    limit: int | None,
) -> list[Opaque]:
    """Snapshots with gt < version ≤ lte."""
    query = _GET + ("DESC" if desc else "ASC") + " LIMIT %s::bigint"
    async with pool.connection() as conn:
        cursor = conn.cursor(binary=True)
        await cursor.execute(query.encode(), (stream_id, _prefix(collection), gt, lte, limit))
        found = await cursor.fetchall()
    states = [(version, msgspec.msgpack.decode(state, type=_State)) for version, state in found]
    return [Opaque(stream_id, version, state.name, state.payload) for version, state in states]


def _prefix(collection: str) -> str:
    return f"eventsourcing/{collection}/"
