"""A database that several tests use one after the other, emptied in between: faster than a new
database for each."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from tests.support.servers import shared

_TABLES = """
    SELECT schemaname, tablename FROM pg_tables
    WHERE schemaname IN ('log', 'private', 'read', 'consumers', 'public')
      AND tablename NOT IN ('migrations', 'releases')
"""

_PAST = "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'ludoteca_at_%'"


class ReusedDatabase:
    """A database with the program's schema; `empty` resets it."""

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url) as conn:
            self._tables = conn.execute(_TABLES).fetchall()

    def empty(self) -> None:
        """End the sessions that the previous test left, drop the tables that it created, and delete
        all rows."""
        with psycopg.connect(self.url) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            for (schema,) in conn.execute(_PAST).fetchall():
                conn.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
            for table in set(conn.execute(_TABLES).fetchall()) - set(self._tables):
                conn.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.Identifier(*table)))
            everything = sql.SQL(", ").join(sql.Identifier(*table) for table in self._tables)
            conn.execute("ALTER TABLE log.events DISABLE TRIGGER append_only")
            conn.execute(sql.SQL("TRUNCATE {}").format(everything))
            conn.execute(
                "ALTER TABLE log.events ENABLE ALWAYS TRIGGER append_only,"
                " DISABLE TRIGGER only_the_mirror"
            )


@contextmanager
def reused_database(postgres_url: str, postgres_template: str) -> Iterator[ReusedDatabase]:
    """Another copy of the template, dropped at the end."""
    url = shared.create_database(postgres_url, template=postgres_template)
    try:
        yield ReusedDatabase(url)
    finally:
        shared.drop_database(url)
