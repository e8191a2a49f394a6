"""Positions of moments: which event was the last at a time."""

from datetime import datetime, timedelta
from typing import Any, LiteralString

import psycopg

from eventstore.pages import HEAD

# recorded_at never decreases along the log, so a binary search finds a time in some twenty steps.
_RECORDED_BY = """
WITH RECURSIVE search (lowest, highest) AS (
    SELECT 0::bigint, coalesce(max(position), 0) FROM log.events
    UNION ALL
    SELECT CASE WHEN e.recorded_at <= %s THEN e.position ELSE lowest END,
           CASE WHEN e.recorded_at <= %s THEN highest ELSE e.position - 1 END
    FROM search JOIN log.events e ON e.position = (lowest + highest + 1) / 2
    WHERE lowest < highest
)
SELECT lowest FROM search WHERE lowest = highest
"""
_OCCURRED_BY = """
SELECT position FROM log.events WHERE position <= %s AND coalesce(occurred_at, recorded_at) <= %s
ORDER BY position DESC LIMIT 1
"""
_BEHIND_BY = """
WITH behind AS NOT MATERIALIZED (
    SELECT position, occurred_at FROM log.events
    WHERE recorded_at - occurred_at > interval '1 minute' AND occurred_at <= %(moment)s
)
SELECT max(position) FROM behind
WHERE occurred_at >= (SELECT max(occurred_at) FROM behind) - %(slack)s
"""
_LONG_AGO = "SELECT least(%s, clock_timestamp()) - %s"

_SLACK = timedelta(minutes=1)
"""How far recorded_at may be ahead of occurred_at before an event is in the index events_behind."""


async def position_at(
    conn: psycopg.AsyncConnection, moment: datetime, clock_tolerance: timedelta | None
) -> int:
    """The position of the last event that had occurred by this time, 0 when there is none.

    `clock_tolerance` is how far the times of events and of the log may differ; None: by any amount.
    """
    if clock_tolerance is None:
        return await _one(conn, _OCCURRED_BY, await _one(conn, HEAD), moment) or 0
    slack = max(clock_tolerance, _SLACK)
    # Events are recorded soon after they occur, except while the log's time is ahead and stands
    # still.
    soon = await _one(conn, _OCCURRED_BY, await recorded_by(conn, moment + slack), moment)
    behind = await conn.execute(_BEHIND_BY, {"moment": moment, "slack": 2 * slack})
    late = await behind.fetchone()
    return max(soon or 0, late[0] or 0 if late else 0)


async def recorded_before(conn: psycopg.AsyncConnection, now: datetime, age: timedelta) -> int:
    """A position up to which everything was recorded longer ago than `age`, by both the database's
    clock and ours (`now`)."""
    return await recorded_by(conn, await _one(conn, _LONG_AGO, now, age))


async def _one(conn: psycopg.AsyncConnection, query: LiteralString, *values: object) -> Any:
    """The single value that a query returns, or None."""
    row = await (await conn.execute(query, values)).fetchone()
    return row[0] if row else None


async def recorded_by(conn: psycopg.AsyncConnection, moment: datetime) -> int:
    """The position of the last event recorded by this time, 0 when there is none."""
    return int(await _one(conn, _RECORDED_BY, moment, moment) or 0)
