"""The signed checkpoints of a log (`log.tree_heads`); those of lost events are void."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString

import msgspec
import psycopg

_COLUMNS: LiteralString = "number, size, root, hash, note, made_at, witnessed_at, void"
_LATEST: LiteralString = f"""
SELECT {_COLUMNS} FROM log.tree_heads WHERE void IS NULL ORDER BY size DESC, number DESC LIMIT 1
"""
_OF_SIZE: LiteralString = f"""
SELECT {_COLUMNS} FROM log.tree_heads WHERE void IS NULL AND size = %s
ORDER BY number DESC LIMIT 1
"""
_PAGE: LiteralString = f"""
SELECT {_COLUMNS} FROM log.tree_heads WHERE number < %s ORDER BY number DESC LIMIT %s
"""
_ADD: LiteralString = f"""
INSERT INTO log.tree_heads (size, root, hash, note) VALUES (%s, %s, %s, %s) RETURNING {_COLUMNS}
"""
_WITNESSED = """
UPDATE log.tree_heads SET note = %s, witnessed_at = clock_timestamp() WHERE number = %s
"""
_ASTRAY = """
SELECT h.number, h.size, h.made_at, (
    SELECT 'the log went back to position ' || p.position || ' at '
        || to_char(p.begun_at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
        || ' (epoch ' || p.number || ': ' || p.reason || ')'
    FROM log.epochs p WHERE p.begun_at > h.made_at AND p.position < h.size
    ORDER BY p.number LIMIT 1
)
FROM log.tree_heads h LEFT JOIN log.events e ON e.position = h.size
WHERE h.void IS NULL AND h.hash IS DISTINCT FROM e.hash
ORDER BY h.size
"""
_HASH = "SELECT hash FROM log.events WHERE position = %s"
_VOID = """
UPDATE log.tree_heads h SET void = g.void
FROM unnest(%s::bigint[], %s::text[]) AS g(number, void) WHERE h.number = g.number
"""


class Head(msgspec.Struct, frozen=True):
    """A signed checkpoint: the tree's size and root, and the chain's hash at that position. `void`
    says why the log does not have these events any more."""

    number: int
    size: int
    root: bytes
    hash: bytes
    note: str
    made_at: datetime
    witnessed_at: datetime | None
    void: str | None


class LogChanged(Exception):
    """The log does not have what was signed, and tells of nothing that explains it."""


class NoCheckpoint(LookupError):
    """There is no signed checkpoint of this size, or of enough events. The message says so."""


async def _one(conn: psycopg.AsyncConnection, query: LiteralString, *values: object) -> Head | None:
    row = await (await conn.execute(query, values)).fetchone()
    return None if row is None else Head(*row)


async def latest(conn: psycopg.AsyncConnection) -> Head | None:
    """The checkpoint of the most events."""
    return await _one(conn, _LATEST)


async def of_size(conn: psycopg.AsyncConnection, size: int) -> Head:
    """The checkpoint of this size. Raises NoCheckpoint, with the sizes next to it."""
    head = await _one(conn, _OF_SIZE, size)
    if head is None:
        beside = await conn.execute(
            "SELECT (SELECT max(size) FROM log.tree_heads WHERE void IS NULL AND size < %s),"
            " (SELECT min(size) FROM log.tree_heads WHERE void IS NULL AND size > %s)",
            (size, size),
        )
        near = " and ".join(str(each) for each in (await beside.fetchone() or ()) if each)
        raise NoCheckpoint(
            f"there is no signed checkpoint of {size} events"
            + (f"; the nearest are of {near}" if near else "; none was signed yet")
        )
    return head


async def page(conn: psycopg.AsyncConnection, before: int, limit: int) -> Sequence[Head]:
    """Checkpoints with numbers below `before`, the latest first, void ones too."""
    rows = await (await conn.execute(_PAGE, (before, limit))).fetchall()
    return [Head(*row) for row in rows]


async def add(
    conn: psycopg.AsyncConnection, size: int, root: bytes, row_hash: bytes, note: str
) -> Head:
    """Keep a checkpoint that was signed."""
    head = await _one(conn, _ADD, size, root, row_hash, note)
    assert head is not None
    return head


async def witnessed(conn: psycopg.AsyncConnection, head: Head, note: str) -> None:
    """Keep that a witness took a checkpoint, whose note may have its signature now."""
    await conn.execute(_WITNESSED, (note, head.number))


async def is_there(conn: psycopg.AsyncConnection, head: Head) -> bool:
    """Whether the log has the events of a checkpoint: the hash at its end covers them all."""
    row = await (await conn.execute(_HASH, (head.size,))).fetchone()
    return row is not None and row[0] == head.hash


async def void_astray(conn: psycopg.AsyncConnection) -> None:
    """Mark the checkpoints of events that the log has lost by going back. Raises LogChanged when
    the log lacks what was signed, and no epoch tells why."""
    rows = await (await conn.execute(_ASTRAY)).fetchall()
    for _, size, made_at, void in rows:
        if void is None:
            raise LogChanged(
                f"at or before position {size} the log is not the one of which a checkpoint was"
                f" signed at {made_at:%Y-%m-%dT%H:%M:%SZ}, and no epoch tells that it went back"
            )
    columns = ([row[0] for row in rows], [row[3] for row in rows])
    await conn.execute(_VOID, columns)
