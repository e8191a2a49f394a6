"""Finds an event by its id. The log has no index for that: each event would pay for what auditors
ask now and then.

An id tells when it was made (`kit.uuid7`), and times tell positions (`eventstore.moments`). So a
search looks through the events of some minutes, not the whole log.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from eventstore.decoding import Raw, raw_rows
from eventstore.moments import recorded_by
from eventstore.pages import COLUMNS
from eventstore.postgres_reading import PostgresLogReader

NEAR_POSITIONS = 2_000
"""An event is usually caused by one of the latest before it."""

SLACK = timedelta(minutes=2)
"""How far the time in an id may be from the time at which the log recorded its event."""

FAR_POSITIONS = 1_000_000
"""The most positions looked through for an id whose time leads nowhere."""

_LATEST_MILLISECONDS = 250_000_000_000_000
"""In the year 9892: later times do not fit into a datetime, with some slack."""

_BY_ID = f"""
SELECT {COLUMNS} FROM log.events WHERE position > %s AND position <= %s AND event_id = %s LIMIT 1
"""


async def find_event(log: PostgresLogReader, event_id: UUID, upto: int) -> Raw | None:
    """The event with this id, as it is stored; `upto` is a position that it does not exceed. None
    when there is none, or none among the last FAR_POSITIONS whose id was made elsewhere."""
    near = upto - NEAR_POSITIONS
    return (
        await _between(log, event_id, near, upto)
        or await _by_time(log, event_id, near)
        or await _between(log, event_id, upto - FAR_POSITIONS, near)
    )


async def _by_time(log: PostgresLogReader, event_id: UUID, upto: int) -> Raw | None:
    made_at = time_of(event_id)
    if made_at is None:
        return None
    async with log.pool.connection() as conn:
        first = await recorded_by(conn, made_at - SLACK)
        last = await recorded_by(conn, made_at + SLACK)
    return await _between(log, event_id, first, min(last, upto))


async def _between(log: PostgresLogReader, event_id: UUID, after: int, upto: int) -> Raw | None:
    if upto <= max(after, 0):
        return None
    async with log.pool.connection() as conn:
        cursor = conn.cursor(binary=True)
        await cursor.execute(_BY_ID.encode(), (max(after, 0), upto, event_id))
        found = raw_rows(await cursor.fetchall())
    return found[0] if found else None


def time_of(event_id: UUID) -> datetime | None:
    """When the id was made; None for one that does not tell, or not credibly."""
    milliseconds = event_id.int >> 80
    if event_id.version != 7 or milliseconds > _LATEST_MILLISECONDS:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
