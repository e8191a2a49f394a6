"""The database of an application: where it is, and how it gets the log's tables."""

import psycopg
from eventsourcing.utils import Environment
from psycopg.conninfo import make_conninfo

from adapters import postgres
from eventstore.database import migrations, release
from eventstore.database.postgres import check_server, connect

_REQUIRED = {
    "dbname": "POSTGRES_DBNAME",
    "host": "POSTGRES_HOST",
    "user": "POSTGRES_USER",
    "password": "POSTGRES_PASSWORD",
}
"""Parameters of libpq, by the library's names."""


def url_of(env: Environment) -> str:
    """The connection string that the library's variables describe. Raises OSError when one is
    missing, or asks for what the log does not have."""
    if env.get("POSTGRES_GET_PASSWORD_TOPIC"):
        raise OSError("POSTGRES_GET_PASSWORD_TOPIC is not supported: set POSTGRES_PASSWORD")
    if (env.get("ORIGINATOR_ID_TYPE") or "uuid").lower() != "uuid":
        raise OSError(
            "ORIGINATOR_ID_TYPE: the log's streams have UUIDs; derive one from a name by uuid5"
        )
    values = {"port": env.get("POSTGRES_PORT") or "5432"}
    for parameter, variable in _REQUIRED.items():
        value = env.get(variable)
        if value is None:
            raise OSError(f"the environment variable {variable} is missing")
        values[parameter] = value
    if timeout := env.get("POSTGRES_CONNECT_TIMEOUT"):
        values["connect_timeout"] = timeout
    return make_conninfo(**{name: value for name, value in values.items() if value})


def prepare(url: str, *, allow_unsafe: bool) -> None:
    """Create or migrate the program's tables, so that its commands work on the database, after
    checking that the server can keep its promises.

    Raises UnsafeDatabase, MigrationError, OutdatedRelease, psycopg.Error.
    """
    with connect(url, "ludoteca", role="") as conn:
        check_server(conn, allow_unsafe=allow_unsafe)
    migrations.migrate(url, postgres.FOLDERS, _begin, migrations.FUNCTIONS)


def require_prepared(url: str) -> None:
    """Raises MigrationError unless the database has all tables; psycopg.Error."""
    with connect(url, "ludoteca", role="") as conn:
        if (due := migrations.missing(conn, postgres.FOLDERS)) is None or due:
            raise migrations.MigrationError(
                "the log's tables are missing, or of an older release: start once with"
                " CREATE_TABLE=yes"
            )


def _begin(conn: psycopg.Connection) -> None:
    release.require_current(conn)
    conn.execute("SELECT log.begin_epoch(0, 'the first')")  # no-op if there is one already
    release.begin(conn)
