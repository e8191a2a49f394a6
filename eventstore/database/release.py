"""Which release of the program uses the database: an older one must neither start nor keep leading.

Old and new processes may run side by side during an upgrade: the older ones go on answering
requests. But they leave what they lead (read models, reactors, the relay, deadlines) to the newer
ones, because they would skip what they do not know.
"""

import psycopg

RELEASE = 2
"""Raised with every release that has a new migration, event or reaction, as
tests/runtime/test_release.py enforces."""


class OutdatedRelease(Exception):
    """A newer release of the program uses the database. The message says what to do."""


def begin(conn: psycopg.Connection) -> None:
    """Register this release as a user of the database, at the end of its migration. Raises
    OutdatedRelease."""
    require_current(conn)
    conn.execute("INSERT INTO log.releases (number) VALUES (%s) ON CONFLICT DO NOTHING", (RELEASE,))


def require_current(conn: psycopg.Connection) -> None:
    """Raises OutdatedRelease when a newer release uses the database."""
    newest = newest_of(conn)
    if newest > RELEASE:
        raise outdated(newest)


def newest_of(conn: psycopg.Connection) -> int:
    """The newest release that uses the database."""
    row = conn.execute("SELECT max(number) FROM log.releases", prepare=True).fetchone()
    return row[0] if row and row[0] is not None else 0


def outdated(newest: int) -> OutdatedRelease:
    """The error for a database used by release `newest`."""
    return OutdatedRelease(
        f"release {newest} uses this database and this is release {RELEASE}: start the newer one,"
        " or restore a backup from before it"
    )
