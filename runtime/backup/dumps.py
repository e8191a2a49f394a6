"""Dumps by PostgreSQL's own `pg_dump`: made of a snapshot, and executed within a transaction."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from adapters.postgres.programs import program
from kit.children import command_that_ends_with_parent
from runtime.backup.manifest import BackupError
from runtime.database.postgres_programs import access

POLL_SECONDS = 0.2

_FOR_PSQL = (b"\\restrict ", b"\\unrestrict ")
"""The only commands of psql in what `pg_restore` writes: https://www.postgresql.org/docs/current/
app-psql.html, `\\restrict`."""


def dump(
    url: str,
    path: Path,
    snapshot: str,
    schemas: Sequence[str],
    *,
    without_rows: Sequence[str],
    report: Callable[[], None],
) -> None:
    """Write these schemas into a file, as an exported snapshot shows them; of the tables
    `without_rows` the definition only. `report` is called from time to time. Raises BackupError,
    OSError."""
    where, environment = access(url, "ludoteca backup")
    command = [
        str(program("pg_dump")),
        "--format=custom",
        f"--snapshot={snapshot}",
        f"--file={path}",
        *(f"--schema={schema}" for schema in schemas),
        *(f"--exclude-table-data={table}" for table in without_rows),
        f"--dbname={where}",
    ]
    # This process's own stdout may be closed, and is reserved for its messages.
    null = subprocess.DEVNULL
    with subprocess.Popen(
        command_that_ends_with_parent(command),
        stdout=null,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        try:
            while True:
                try:
                    _, messages = process.communicate(timeout=POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    report()
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise BackupError(f"pg_dump failed ({process.returncode}): {_reason(messages)}")


def execute(conn: psycopg.Connection, path: Path, report: Callable[[int], None]) -> None:
    """Execute a dump's statements, in the connection's transaction. `report` gets the number of
    rows put into a table, from time to time. Raises BackupError when the dump cannot be read;
    psycopg.Error."""
    with _as_sql(path) as process:
        assert process.stdout is not None
        statements: list[bytes] = []
        for line in process.stdout:
            if line.startswith(b"COPY ") and line.endswith(b" FROM stdin;\n"):
                conn.execute(b"".join(statements))
                statements.clear()
                _copy(conn, line, process.stdout, report)
            elif not line.startswith(_FOR_PSQL):
                statements.append(line)
        if process.wait():
            messages = process.stderr.read() if process.stderr else b""
            raise BackupError(f"the backup cannot be read: {_reason(messages)}")
        conn.execute(b"".join(statements))
    conn.execute("RESET ALL")  # a dump sets an empty search path, and more


def _copy(
    conn: psycopg.Connection,
    statement: bytes,
    lines: Iterator[bytes],
    report: Callable[[int], None],
) -> None:
    reported = time.monotonic()
    with conn.cursor().copy(statement) as copy:
        for number, row in enumerate(lines, 1):
            if row == b"\\.\n":
                return
            copy.write(row)
            if not number % 1000 and time.monotonic() - reported > POLL_SECONDS:
                report(number)
                reported = time.monotonic()


@contextmanager
def _as_sql(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(program("pg_restore")), "--file=-", "--no-owner", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _reason(messages: bytes) -> str:
    """What a program said of why it failed."""
    text = messages.decode(errors="replace").strip()
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line or "error" in line]
    return (errors or lines or ["no reason was given"])[0]
