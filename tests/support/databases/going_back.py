"""A database that goes back to an earlier moment while programs are connected to it."""

from contextlib import closing
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from tests.support.servers import shared


class Earlier:
    """One database of a server: `keep` a copy of it, and later `go_back` to that copy. Its URL
    stays the same."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._name = urlsplit(url).path.removeprefix("/")
        self._kept = f"{self._name}_kept"
        self._server = shared.at_database(url, "postgres")

    def keep(self) -> None:
        """Copy the database. Its connections are lost; programs reconnect."""
        self._run("ALTER DATABASE {} ALLOW_CONNECTIONS false", self._name)
        self._end_connections()
        self._run("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", self._kept, self._name)
        self._run("ALTER DATABASE {} ALLOW_CONNECTIONS true", self._name)

    def go_back(self) -> None:
        """Replace the database by the copy."""
        self._run("ALTER DATABASE {} ALLOW_CONNECTIONS false", self._name)
        self._run("DROP DATABASE {} WITH (FORCE)", self._name)
        self._run("ALTER DATABASE {} RENAME TO {}", self._kept, self._name)

    def _end_connections(self) -> None:
        with closing(psycopg.connect(self._server, autocommit=True)) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s",
                [self._name],
            )

    def _run(self, command: str, *names: str) -> None:
        with closing(psycopg.connect(self._server, autocommit=True)) as conn:
            conn.execute(sql.SQL(command).format(*map(sql.Identifier, names)))
