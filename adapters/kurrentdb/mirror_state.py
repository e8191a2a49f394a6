"""Whether the mirror follows KurrentDB, and how far it is behind."""

from datetime import UTC, datetime, timedelta

from kurrentdbclient import AsyncKurrentDBClient
from psycopg_pool import AsyncConnectionPool

from adapters.kurrentdb import following, wire
from eventstore.log import LogUnavailable

LATE = timedelta(seconds=10)
"""How far behind the mirror is down for readiness."""

_STATE = """
SELECT m.halted, m.commit_position, m.position, coalesce((SELECT max(position) FROM log.events), 0)
FROM (SELECT) AS one LEFT JOIN log.mirror m ON true
"""


async def require_going(pool: AsyncConnectionPool) -> int:
    """The mirror's checkpoint, a commit position.

    Raises LogUnavailable while the mirror stands still, or compares the two logs: what was appended
    to KurrentDB then might belong to another history than PostgreSQL's. A mirror that is merely
    late, or not running, is not noticed here. Raises psycopg.Error.
    """
    async with pool.connection() as conn:
        row = await (await conn.execute(_STATE)).fetchone()
    assert row is not None
    halted, commit_position, position, head = row
    if halted is not None:
        raise LogUnavailable(f"the mirror of KurrentDB stands still: {halted}")
    if (position or 0) < head:
        raise LogUnavailable("the mirror compares PostgreSQL's events with KurrentDB's")
    return commit_position or 0


async def lag(client: AsyncKurrentDBClient, pool: AsyncConnectionPool) -> timedelta:
    """How long KurrentDB has had the first event that the mirror lacks; 0 if it has all. Raises as
    `require_going`, and one of `following.FAILURES`."""
    checkpoint = await require_going(pool)
    async for recorded in following.records_from(client, checkpoint):
        if recorded.commit_position > checkpoint and recorded.stream_name != wire.SEALS:
            return datetime.now(UTC) - (recorded.recorded_at or datetime.now(UTC))
    return timedelta()


async def must_keep_up(client: AsyncKurrentDBClient, pool: AsyncConnectionPool) -> None:
    """Raises as `lag`, and LogUnavailable if the mirror is too late."""
    if (behind := await lag(client, pool)) > LATE:
        raise LogUnavailable(
            f"the mirror is {behind.total_seconds():.0f} s behind KurrentDB: does `ludoteca mirror`"
            " run?"
        )
