"""Numbered SQL files, each run once, in order, under a lock, when a process starts.

Completed migrations are recorded in log.migrations, which is backed up with the log. A file that
has run is not edited. If it must be, for new installations, its line `-- supersedes SHA256` names
the text that others ran, with the same effect.

Functions are not migrations: each has its current text in a file of its own (sql/functions), which
is installed anew whenever it differs from the installed one.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import psycopg

from eventstore.database.locks import END_OF_LOG, MIGRATION
from eventstore.database.postgres import connect

SQL = Path(__file__).parents[1] / "sql" / "migrations"
FUNCTIONS = Path(__file__).parents[1] / "sql" / "functions"

LOCK_SECONDS = 20
"""How long to wait for locks held by others."""

_TABLE = """
CREATE TABLE IF NOT EXISTS log.migrations (
    component  text NOT NULL,
    number     int NOT NULL,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (component, number)
)"""
_FIND_TABLES = """
SELECT to_regclass('log.events') IS NOT NULL, to_regclass('log.migrations') IS NOT NULL
"""
_FIND_SCHEMA = """
SELECT to_regnamespace('log') IS NOT NULL, to_regclass('log.migrations') IS NOT NULL,
    EXISTS (SELECT FROM pg_tables WHERE (schemaname, tablename) = ('public', %s))
"""
_MIGRATIONS = """
SELECT component, number, name, sha256 FROM log.migrations ORDER BY applied_at, component, number
"""
_ADD_MIGRATION = """
INSERT INTO log.migrations (component, number, name, sha256) VALUES (%s, %s, %s, %s)
"""
_PUT_FUNCTION = """
INSERT INTO log.functions (name, sha256) VALUES (%s, %s)
ON CONFLICT (name) DO UPDATE SET sha256 = excluded.sha256, installed_at = clock_timestamp()
"""
_FORMER_TABLE = "ludoteca_migrations"
"""The table, in schema public, in which an older release recorded migrations."""

Folders = Sequence[tuple[str, Path]]
"""The components of a program, and the folders of their files."""


class MigrationError(Exception):
    """The database's migrations are not a prefix of the program's, or another process does not
    finish them. The message says what to do."""


class _Migration(msgspec.Struct, frozen=True):
    """One SQL file."""

    component: str
    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def is_of(self, sha256: str) -> bool:
        """Whether the file is the one with this hash, or supersedes it."""
        return sha256 == self.sha256 or f"-- supersedes {sha256}" in self.text


def migrate(
    url: str,
    folders: Folders,
    begin: Callable[[psycopg.Connection], None] = lambda _: None,
    functions: Path | None = None,
) -> list[str]:
    """Run the pending migrations of each (component, folder), and install the changed functions of
    a folder. Returns the names of both.

    One call is one transaction, which ends with `begin`: all or nothing. Processes that start
    together queue on a lock. Raises MigrationError, psycopg.Error, and what `begin` raises.
    """
    migrations = list(_read(folders))
    with connect(url, "ludoteca migrations", role="") as conn, conn.transaction():
        conn.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'".encode())
        try:
            conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", MIGRATION)
        except psycopg.errors.LockNotAvailable as error:
            raise MigrationError(
                f"another process has been preparing this database for {LOCK_SECONDS} s: try again"
                " when it is done"
            ) from error
        _find_table(conn)
        due = _due(conn, migrations)
        if due:  # take the lock of appends before log.events, as they do, to avoid a deadlock
            conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", END_OF_LOG)
        for migration in due:
            try:
                conn.execute(migration.text.encode())
            except psycopg.errors.DuplicateSchema as error:
                raise MigrationError(
                    f"{error.diag.message_primary}, and the schema `log` does not: restore that one"
                    " from a backup, or use an empty database"
                ) from error
            conn.execute(
                _ADD_MIGRATION,
                (migration.component, migration.number, migration.name, migration.sha256),
            )
        installed = _install(conn, functions) if functions else []
        begin(conn)
        return [f"{migration.component}/{migration.name}" for migration in due] + installed


def missing(conn: psycopg.Connection, folders: Folders) -> list[str] | None:
    """The names of the database's pending migrations; None when it has no log yet. Raises
    MigrationError."""
    row = conn.execute(_FIND_TABLES).fetchone()
    if row is None or not row[0]:
        return None
    if not row[1]:
        return ["log.migrations"]
    return [
        f"{migration.component}/{migration.name}" for migration in _due(conn, list(_read(folders)))
    ]


def _read(folders: Folders) -> Iterable[_Migration]:
    for component, folder in folders:
        for path in sorted(folder.glob("*.sql")):
            yield _Migration(component, _number(path), path.name, path.read_text(encoding="utf-8"))


def _due(conn: psycopg.Connection, migrations: Sequence[_Migration]) -> list[_Migration]:
    """The migrations that have not run."""
    ran = {
        (component, number): (name, sha256)
        for component, number, name, sha256 in conn.execute(_MIGRATIONS)
    }
    known = {(migration.component, migration.number): migration for migration in migrations}
    newer = [f"{key[0]}/{name}" for key, (name, _) in ran.items() if key not in known]
    if newer:
        raise MigrationError(
            f"a newer release has migrated the database ({', '.join(newer)}): start that one,"
            " or restore a backup from before it"
        )
    for key, (name, sha256) in ran.items():
        if not known[key].is_of(sha256):
            raise MigrationError(f"{key[0]}/{name} was edited after it ran; add a new file instead")
    return [migration for key, migration in known.items() if key not in ran]


def _install(conn: psycopg.Connection, folder: Path) -> list[str]:
    """Install each function whose text differs from the installed one. Returns the files' names."""
    known: dict[str, str] = dict(conn.execute("SELECT name, sha256 FROM log.functions"))
    installed = []
    for path in sorted(folder.glob("*.sql")):
        text = path.read_text(encoding="utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        if known.get(path.stem) == digest:
            continue
        conn.execute(text.encode())
        conn.execute(_PUT_FUNCTION, (path.stem, digest))
        installed.append(f"functions/{path.name}")
    return installed


def _find_table(conn: psycopg.Connection) -> None:
    """Create the table, or move it from where an older release had it."""
    row = conn.execute(_FIND_SCHEMA, (_FORMER_TABLE,)).fetchone()
    assert row is not None
    schema, table, former = row
    if table:
        return
    if former:
        conn.execute(f"ALTER TABLE public.{_FORMER_TABLE} SET SCHEMA log".encode())
        conn.execute(f"ALTER TABLE log.{_FORMER_TABLE} RENAME TO migrations".encode())
        return
    if schema:
        raise MigrationError(
            "the database has the schema `log`, but nothing tells which migrations made it: it was"
            f" restored without log.migrations (of an older release: public.{_FORMER_TABLE})."
            " Restore that table from the same backup"
        )
    conn.execute("CREATE SCHEMA log")
    conn.execute(_TABLE)


def _number(path: Path) -> int:
    match = re.match(r"(\d{4})_", path.name)
    if not match:
        raise MigrationError(f"{path.name}: a migration's name starts with four digits")
    return int(match[1])
