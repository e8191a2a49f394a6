"""The origin of a log: the name under which its checkpoints are signed.

It follows from the first event, so that a log keeps it wherever it is restored or copied to, and no
other log has it.
"""

import psycopg

_FIRST = "SELECT hash FROM log.events WHERE position = 1"


def _origin(row: tuple[bytes] | None) -> str | None:
    return None if row is None else f"ludoteca.log/{row[0].hex()[:32]}"


async def origin(conn: psycopg.AsyncConnection) -> str | None:
    """The log's origin; None while it has no event."""
    return _origin(await (await conn.execute(_FIRST)).fetchone())


def origin_now(conn: psycopg.Connection) -> str | None:
    """As `origin`, for code that does not wait."""
    return _origin(conn.execute(_FIRST).fetchone())
