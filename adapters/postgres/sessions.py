"""Sessions in PostgreSQL."""

from datetime import datetime
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from commands.ports.sessions import Session

_OPEN = """
INSERT INTO private.sessions (session_id, user_id, generation, expires_at, epoch)
VALUES (%s, %s, %s, %s, %s) ON CONFLICT (session_id) DO NOTHING
"""

_FIND = """
SELECT session_id, user_id, generation, expires_at, epoch, revoked, spent_under
FROM private.sessions WHERE session_id = %s
"""

_OF_USER = """
SELECT session_id, user_id, generation, expires_at, epoch, revoked, spent_under
FROM private.sessions WHERE user_id = %s AND expires_at >= clock_timestamp()
ORDER BY expires_at
"""

_ADVANCE = """
UPDATE private.sessions SET generation = generation + 1, spent_under = %s
WHERE session_id = %s AND generation = %s AND NOT revoked
"""

_REVOKE = "UPDATE private.sessions SET revoked = true WHERE session_id = %s"

_PURGE_EXPIRED = "DELETE FROM private.sessions WHERE expires_at < least(%s, clock_timestamp())"


class PostgresSessions:
    """Implements `commands.ports.sessions.Sessions`."""

    def __init__(self, pool: AsyncConnectionPool) -> None:
        self._pool = pool

    async def open(self, session: Session) -> None:
        """Store a new session. Idempotent."""
        await self._execute(
            _OPEN,
            (
                session.session_id,
                session.user_id,
                session.generation,
                session.expires_at,
                session.epoch,
            ),
        )

    async def find(self, session_id: UUID) -> Session | None:
        """The session, or None."""
        async with self._pool.connection() as conn:
            row = await (await conn.execute(_FIND, (session_id,))).fetchone()
        return Session(*row) if row else None

    async def advance(self, session_id: UUID, generation: int, under: bytes | None) -> bool:
        """Compare and set: of two attempts to spend one generation, one succeeds."""
        return await self._execute(_ADVANCE, (under, session_id, generation))

    async def revoke(self, session_id: UUID) -> None:
        await self._execute(_REVOKE, (session_id,))

    async def of_user(self, user_id: UUID) -> list[Session]:
        """A user's unexpired sessions, including ended ones; the longest-lived last."""
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(_OF_USER, (user_id,))).fetchall()
            return [Session(*row) for row in rows]

    async def purge_expired(self, now: datetime) -> None:
        """Delete sessions that have expired by both the database's clock and ours (`now`)."""
        await self._execute(_PURGE_EXPIRED, (now,))

    async def _execute(self, query: str, values: tuple[object, ...]) -> bool:
        async with self._pool.connection() as conn:
            return (await conn.execute(query.encode(), values)).rowcount > 0
