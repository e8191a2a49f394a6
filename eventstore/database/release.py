"""Which release of the program uses the database: an older one must neither start nor go on leading.

Old and new processes may run side by side while a shop is upgraded: the older ones go on answering. But what they lead
(read models, reactors, the relay, deadlines) they leave to the newer: they would pass over what only those know.
"""

import psycopg

RELEASE = 2
"""Raised with every release that has a new migration, event or reaction: tests/runtime/test_release.py sees to it."""


class OutdatedRelease(Exception):
    """A newer release of the program uses the database; the message says what to do."""


def begin(conn: psycopg.Connection) -> None:
    """Make this the release that uses the database; to be called by who migrates it. Raises OutdatedRelease."""
    require_current(conn)
    conn.execute("INSERT INTO log.releases (number) VALUES (%s) ON CONFLICT DO NOTHING", (RELEASE,))


def require_current(conn: psycopg.Connection) -> None:
    """Raises OutdatedRelease where a newer release has begun."""
    newest = newest_of(conn)
    if newest > RELEASE:
        raise outdated(newest)


def newest_of(conn: psycopg.Connection) -> int:
    """The number of the newest release that uses the database."""
    row = conn.execute("SELECT max(number) FROM log.releases", prepare=True).fetchone()
    return row[0] if row and row[0] is not None else 0


def outdated(newest: int) -> OutdatedRelease:
    """What is to be said where release `newest` has begun."""
    return OutdatedRelease(
        f"release {newest} uses this database and this is release {RELEASE}: start the newer one,"
        " or restore a backup from before it"
    )
