"""The migrations of the program's database."""

import contextlib

import psycopg

from adapters import postgres
from eventstore.database import migrations, release
from eventstore.database.pooler import check_pooler
from eventstore.database.postgres import ROLE, check_server, connect
from projections.engine import schema
from runtime.database.instance import pooler_url
from runtime.settings import Settings
from runtime.wiring.master_key import prepare_master_key

FOLDERS = postgres.FOLDERS


def migrate(url: str) -> list[str]:
    """Migrate the database at `url` to this program's schema. Returns the migrations that ran.
    Processes may call it at the same time. Raises MigrationError, OutdatedRelease."""
    return migrations.migrate(url, FOLDERS, _begin, migrations.FUNCTIONS)


def prepare_database(url: str, settings: Settings) -> None:
    """Migrate the database, after checking that it can keep the program's promises; and check the
    master key, and the pooler in front of the database, if there is one. Raises UnsafeDatabase,
    MigrationError, OutdatedRelease, WrongMasterKey, psycopg.OperationalError."""
    with connect(url, "ludoteca", role="") as conn:
        check_server(conn, allow_unsafe=settings.allow_unsafe_database == "on")
    migrate(url)
    prepare_master_key(url, settings)
    if pooler := pooler_url(settings):
        check_pooler(pooler)


def migrate_beside(url: str) -> list[str]:
    """As `migrate`, while an older release stays in the lead."""
    return migrations.migrate(url, FOLDERS, _make_room, migrations.FUNCTIONS)


def _begin(conn: psycopg.Connection) -> None:
    _make_room(conn)
    release.begin(conn)


_LOCKED = """
SELECT nspname FROM pg_namespace
WHERE nspname IN ('log', 'private', 'consumers', 'queue', 'read') AND
    NOT has_schema_privilege(%s, oid, 'USAGE')
ORDER BY nspname"""


def _let_in(conn: psycopg.Connection) -> None:
    """Grant the program's role access to its schemas. It may be missing after `pg_restore
    --schema=log` into a schema that was made by hand. Raises MigrationError if rights in the schema
    are missing, too."""
    for (name,) in conn.execute(_LOCKED, (ROLE,)).fetchall():
        grant = f"GRANT USAGE ON SCHEMA {name} TO {ROLE}"
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege), conn.transaction():
            conn.execute(grant)
        # refused, or ignored with a warning
        if conn.execute(_LOCKED, (ROLE,)).fetchone() == (name,):
            raise migrations.MigrationError(f"the owner of the schema {name} has to run: {grant}")
    row = conn.execute("SELECT has_table_privilege(%s, 'log.events', 'SELECT')", (ROLE,)).fetchone()
    if row and not row[0]:
        raise migrations.MigrationError(
            f"{ROLE} may not read log.events: it was restored without its rights. Restore it again,"
            " with neither --no-privileges nor --no-acl"
        )


def _make_room(conn: psycopg.Connection) -> None:
    """Create the schema of the read models if it was dropped or left out of a backup. Its rows are
    rebuilt from the events."""
    _let_in(conn)
    release.require_current(conn)
    conn.execute("SELECT log.begin_epoch(0, 'the first')")  # no-op if there is one already
    if not schema.is_fit(conn):
        schema.make(conn)
