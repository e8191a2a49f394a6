"""Whether the mirror follows KurrentDB, and how far it is behind: as every process can see in
PostgreSQL."""

from datetime import timedelta

from psycopg_pool import AsyncConnectionPool

from eventstore.log import LogUnavailable

LATE = timedelta(seconds=10)
"""How far behind the mirror is down for readiness."""

_STATE = """
SELECT m.halted, m.position, coalesce((SELECT max(position) FROM log.events), 0),
    clock_timestamp() - m.seen_at
FROM (SELECT) AS one LEFT JOIN log.mirror m ON true
"""


async def require_going(pool: AsyncConnectionPool) -> timedelta | None:
    """How long ago the mirror is known to have had everything; None if it never ran.

    Raises LogUnavailable while the mirror stands still, or compares the two logs: what was appended
    to KurrentDB then might belong to another history than PostgreSQL's. Raises psycopg.Error.
    """
    async with pool.connection() as conn:
        row = await (await conn.execute(_STATE)).fetchone()
    assert row is not None
    halted, position, head, behind = row  # type: str | None, int | None, int, timedelta | None
    if halted is not None:
        raise LogUnavailable(f"the mirror of KurrentDB stands still: {halted}")
    if (position or 0) < head:
        raise LogUnavailable("the mirror compares PostgreSQL's events with KurrentDB's")
    return behind and max(behind, timedelta())  # KurrentDB's clock may be ahead


async def must_keep_up(pool: AsyncConnectionPool) -> None:
    """Raises as `require_going`, and LogUnavailable if the mirror is late, or does not run."""
    behind = await require_going(pool)
    if behind is None or behind > LATE:
        since = "never ran" if behind is None else f"is {behind.total_seconds():.0f} s behind"
        raise LogUnavailable(f"the mirror of KurrentDB {since}: does `ludoteca mirror` run?")
