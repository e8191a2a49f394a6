"""The benchmarks' own PostgreSQL, and a fresh database for every run, so that none inherits
another's tables."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from adapters.postgres.embedded import EmbeddedPostgres
from eventstore.database.postgres import connect
from runtime.host.listening import bind
from runtime.release.migrate import migrate

SETTINGS = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


def free_port() -> int:
    """A port that nobody has; another one each time, as several benchmarks may run at once."""
    return bind("127.0.0.1", 0)


class Server:
    """An embedded server; databases are copied from templates, which are created once."""

    def __init__(self, url: str, pid: int) -> None:
        self.pid = pid
        self._url = url
        self.templates: set[str] = set()
        self._made = 0

    def url(self, database: str) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{database}"))

    def template(self, name: str, fill: Callable[[str], object], *, of: str = "template1") -> None:
        """Create a database, filled by a function of its URL, as a template."""
        self._execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(of)
            )
        )
        fill(self.url(name))
        self.templates.add(name)

    @contextmanager
    def fresh(self, template: str = "template1") -> Iterator[str]:
        """The URL of a new database, dropped at the end. Earlier writes are flushed first, so that
        all runs start alike."""
        self._made += 1
        name = sql.Identifier(f"run_{self._made}")
        self._execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, sql.Identifier(template))
        )
        self._execute(sql.SQL("CHECKPOINT"))
        try:
            yield self.url(f"run_{self._made}")
        finally:
            self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def settings(self) -> Mapping[str, str]:
        """Version and the settings that decide what a commit costs."""
        with psycopg.connect(self._url) as conn:
            names = ("server_version", *SETTINGS, "shared_buffers", "max_wal_size")
            rows = conn.execute(
                "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name", (list(names),)
            )
            return dict(rows.fetchall())

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self._url, autocommit=True) as conn:
            conn.execute(statement)


@contextmanager
def running() -> Iterator[Server]:
    """A server in a temporary home, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="ludoteca-bench-") as home:
        Path(home).chmod(0o755)  # when we are root, the server runs as another user
        with EmbeddedPostgres(Path(home), settings=SETTINGS) as postgres:
            assert postgres.pid is not None
            server = Server(postgres.url, postgres.pid)
            server.template("ours", migrate)
            yield server


def connect_as_program(url: str) -> psycopg.Connection:
    """A connection like the program's own: its role, each statement its own transaction."""
    return connect(url, "ludoteca benchmark")


def library_environment(url: str, module: str = "eventsourcing.postgres") -> dict[str, str]:
    """The `eventsourcing` library's settings for a database and a persistence module: its defaults,
    except for a pool that is large enough."""
    where = conninfo_to_dict(url)
    return {
        "PERSISTENCE_MODULE": module,
        "POSTGRES_DBNAME": str(where["dbname"]),
        "POSTGRES_HOST": str(where["host"]),
        "POSTGRES_PORT": "5432",
        "POSTGRES_USER": str(where["user"]),
        "POSTGRES_PASSWORD": "",
        "POSTGRES_POOL_SIZE": "64",
        "POSTGRES_MAX_OVERFLOW": "16",
    }
