"""The log as JSON lines, for `ludoteca events`: selected events, with their payloads as stored."""

import fnmatch
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from eventstore.decoding import Raw, raw_rows
from eventstore.log import Envelope
from eventstore.pages import COLUMNS, bounded, fitting
from kit.json_errors import JSON_ERRORS

PAGE = 1_000

_SELECTED = """
position > %(after)s AND
position <= %(upto)s AND
(%(names)s::text[] IS NULL OR name = ANY (%(names)s)) AND
(%(stream)s::uuid IS NULL OR stream_id = %(stream)s)
"""

_LAST_POSITIONS = f"""
SELECT position FROM log.events
WHERE {_SELECTED}
ORDER BY position DESC LIMIT %(limit)s
"""

_AT_POSITION = f"SELECT {COLUMNS}, hash FROM log.events WHERE position = %s"

_BY_EVENT_ID = f"SELECT {COLUMNS}, hash FROM log.events WHERE event_id = %s"


class Selection(msgspec.Struct, frozen=True):
    """Events to select: those with one of these wire names, in this stream. None selects all."""

    names: Sequence[str] | None = None
    stream: UUID | None = None


class UnknownName(Exception):
    """No event has this name, or a name that matches this pattern."""


def names_like(patterns: Sequence[str], known: Sequence[str]) -> list[str] | None:
    """The wire names that are given or match a pattern such as `payment.*`; None if none are given.
    Raises UnknownName."""
    found: set[str] = set()
    for pattern in patterns:
        matching = fnmatch.filter(known, pattern)
        if not matching:
            raise UnknownName(pattern)
        found.update(matching)
    return sorted(found) if patterns else None


async def pages(
    pool: AsyncConnectionPool, selection: Selection, after: int, upto: int, page: int = PAGE
) -> AsyncIterator[list[Raw]]:
    """Yield the selected events with after < position ≤ upto in order, page by page."""
    query = bounded(_SELECTED, limit="%(limit)s")
    while after < upto:
        async with pool.connection() as conn:
            cursor = conn.cursor(binary=True)
            await cursor.execute(
                query.encode(), _values(selection, after=after, upto=upto, limit=page)
            )
            found = await cursor.fetchall()
        rows = raw_rows(fitting(found))
        if rows:
            yield rows
        after = rows[-1][0].position if len(rows) == page or len(rows) < len(found) else upto


async def before_last(
    pool: AsyncConnectionPool, selection: Selection, count: int, upto: int
) -> int:
    """The position after which the last `count` selected events come."""
    if not count:
        return upto
    async with pool.connection() as conn:
        values = _values(selection, after=0, upto=upto, limit=count)
        rows = await (await conn.execute(_LAST_POSITIONS.encode(), values)).fetchall()
    return rows[-1][0] - 1 if rows else upto


async def find(pool: AsyncConnectionPool, reference: int | UUID) -> tuple[Raw, bytes] | None:
    """One event by position or event id, with its hash in the chain. Searching by id reads the
    whole log."""
    query = _AT_POSITION if isinstance(reference, int) else _BY_EVENT_ID
    async with pool.connection() as conn:
        cursor = conn.cursor(binary=True)
        await cursor.execute(query.encode(), (reference,))
        row = await cursor.fetchone()
    return (raw_rows([row])[0], row[-1]) if row else None


def _values(selection: Selection, **bounds: int) -> dict[str, object]:
    names = None if selection.names is None else list(selection.names)
    return {"names": names, "stream": selection.stream, **bounds}


def event_json(env: Envelope, payload: bytes) -> bytes:
    """An event as one line of JSON."""
    return msgspec.json.encode(event_fields(env, payload))


def event_fields(env: Envelope, payload: bytes) -> dict[str, object]:
    """The fields of the line. A payload that is not JSON, or is nested too deeply for readers, is
    encoded in base64; only a forger would write one."""
    fields: dict[str, object] = msgspec.structs.asdict(env)
    try:
        msgspec.json.decode(payload, type=msgspec.Raw)
        one_line = msgspec.json.format(payload, indent=-1) if b"\n" in payload else payload
        fields["payload"] = msgspec.Raw(one_line)
    except JSON_ERRORS:
        fields["payload_base64"] = b64encode(payload).decode()
    return fields
