"""Back up a shop and restore it: everything that cannot be computed again, as of one moment.

A backup is a folder. `log.dump` has the events, the state of consumers and the work queues.
`keys.dump` has the persons' keys and the program's secrets, in a file of its own: without it nobody
can read personal data, and forgetting a person means destroying their key in every copy of it.
`images.tar` has the images, if they are files of this instance. More files come from HOME
(`runtime.backup_of_home`). `manifest.json` lists all files. Read models are not backed up; they are
rebuilt from the events.
"""

import hashlib
import logging
import shutil
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import msgspec
import psycopg

from adapters.postgres.programs import program
from eventstore.database.migrations import missing
from eventstore.database.postgres import connect
from eventstore.database.release import RELEASE
from runtime import backup_of_home
from runtime.home import PASSWORD_FILE
from runtime.migrate import FOLDERS, migrate
from runtime.output_files import errors_naming
from runtime.postgres_programs import access

logger = logging.getLogger(__name__)

FORMAT = 1
LOG, KEYS, IMAGES, MANIFEST = "log.dump", "keys.dump", "images.tar", "manifest.json"
SCHEMAS: Mapping[str, Sequence[str]] = {LOG: ("log", "consumers", "queue"), KEYS: ("private",)}
ALL_SCHEMAS = (*SCHEMAS[LOG], *SCHEMAS[KEYS])
POLL_SECONDS = 0.2

_END_OF_LOG = """
SELECT position, encode(hash, 'hex') FROM log.events
ORDER BY position DESC LIMIT 1
"""

_EVENTS_COPIED = """
SELECT coalesce(max(tuples_processed), 0) FROM pg_stat_progress_copy
WHERE relid = to_regclass('log.events')
"""

_OTHER_SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND
    pid <> pg_backend_pid() AND
    application_name LIKE 'ludoteca%'
"""

_CHECK_END_OF_LOG = """
DO $$ BEGIN
    IF (SELECT coalesce(max(position), 0) FROM log.events) <> {position} OR
        EXISTS (
            SELECT FROM log.events WHERE position = {position} AND hash <> '\\x{hash}'
        ) THEN
        RAISE EXCEPTION 'the log does not end as the backup says: restore another';
    END IF;
END $$;
"""

_FORGET_READ_MODELS = """
DELETE FROM consumers.quarantine WHERE feed IN (
    SELECT feed FROM consumers.feeds WHERE storage <> ''
);
DELETE FROM consumers.feeds WHERE storage <> '';
-- the shop that was backed up may go on writing to its indices
DELETE FROM private.secrets WHERE name = 'index_prefix';
"""

_BEGIN_EPOCH = """
SELECT log.begin_epoch(
    (SELECT max(number) FROM log.epochs),
    'restored from the backup of {made_at:%F %T}'
);
"""

Progress = Callable[[str, int, int], None]


class BackupError(Exception):
    """A backup cannot be made or restored. The message says why."""


class File(msgspec.Struct, frozen=True):
    """A file of a backup."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """The content of a backup: the log up to `position`, whose last event has `hash` (hex), and the
    `files` by name."""

    format: int
    release: int
    made_at: datetime
    position: int
    hash: str
    files: Mapping[str, File]


# -- making one ------------------------------------------------------------------------------------


def backup(
    url: str, target: Path, images: Path | None, progress: Progress, *, home: Path | None = None
) -> Manifest:
    """Write a backup of the database at `url` into a new folder, which appears only when it is
    complete.

    The shop may be running: the whole database is copied from one snapshot. `images` is the folder
    of image files, if any; `home` contains the simulators' books. Raises BackupError, OSError,
    psycopg.Error.
    """
    if target.exists():
        raise BackupError(f"{target} is there already: name a new folder")
    if not target.parent.is_dir():
        raise BackupError(f"{target.parent} is not there: is something not mounted?")
    half = target.with_name(target.name + ".part")
    shutil.rmtree(half, ignore_errors=True)
    with errors_naming(half, target):
        half.mkdir(mode=0o700)
    try:
        with errors_naming(half, target):
            manifest = _write(url, half, images, home, progress)
            half.rename(target)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise
    return manifest


def _write(
    url: str, folder: Path, images: Path | None, home: Path | None, progress: Progress
) -> Manifest:
    with connect(url, "ludoteca backup", role="") as conn, conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        if due := missing(conn, FOLDERS):
            raise BackupError(
                f"the database is of an older release, it lacks {', '.join(due)}: start this one"
                " first"
            )
        snapshot = _one(conn, "SELECT pg_export_snapshot()")
        position, digest = _end_of_log(conn)
        for name, schemas in SCHEMAS.items():
            chosen = [f"--schema={schema}" for schema in schemas]
            command = [
                "pg_dump",
                "--format=custom",
                f"--snapshot={snapshot}",
                f"--file={folder / name}",
                *chosen,
            ]
            _run(command, url, lambda: progress("events copied", _events_copied(url), position))
            if name == LOG:
                progress("events copied", position, position)
    names = [*SCHEMAS]
    # an image's name is its hash, so one that was added since the snapshot does no harm
    if images is not None and images.is_dir():
        with tarfile.open(folder / IMAGES, "w") as tar:
            tar.add(images, "images")
        names.append(IMAGES)
    if home is not None:
        try:
            names += backup_of_home.save(home, folder)
        except sqlite3.Error as error:
            raise BackupError(
                f"the books of a simulator in {home} cannot be copied: {error}"
            ) from error
    files = {name: _describe(folder / name, progress) for name in names}
    manifest = Manifest(FORMAT, RELEASE, datetime.now(UTC), position, digest, files)
    (folder / MANIFEST).write_bytes(
        msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    )
    for path in folder.iterdir():  # they stay private wherever the folder is moved to
        path.chmod(0o600)
    return manifest


def _end_of_log(conn: psycopg.Connection) -> tuple[int, str]:
    row = conn.execute(_END_OF_LOG).fetchone()
    return (row[0], row[1]) if row else (0, "")


# -- a shop from one -------------------------------------------------------------------------------


def read_manifest(folder: Path) -> Manifest:
    """Read and check a backup's manifest. Raises BackupError."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise BackupError(f"{folder} is no backup: it has no {MANIFEST}") from None
    except msgspec.MsgspecError as error:
        raise BackupError(f"{folder / MANIFEST} is damaged: {error}") from None
    if manifest.format > FORMAT or manifest.release > RELEASE:
        raise BackupError(
            f"the backup is of release {manifest.release}, and this is release {RELEASE}: use"
            " that one"
        )
    return manifest


def restore(
    url: str,
    folder: Path,
    images: Path | None,
    progress: Progress,
    *,
    home: Path | None = None,
    without_keys: bool = False,
) -> Manifest:
    """Restore a backup into the database at `url`, whose log must be empty. It is restored
    completely or not at all.

    With `without_keys`, the persons' keys and the secrets are left out, so that everybody is
    forgotten for good. Simulators' books that `home` already has are kept. Raises BackupError,
    OSError, psycopg.Error.
    """
    manifest = read_manifest(folder)
    wanted = [
        name for name in manifest.files if name not in {KEYS, PASSWORD_FILE} or not without_keys
    ]
    if not (folder / PASSWORD_FILE).exists() and PASSWORD_FILE in wanted:
        wanted.remove(PASSWORD_FILE)  # the operator keeps it elsewhere; the shop does not need it
    for name in wanted:
        _check(folder / name, manifest.files[name], progress)
    migrate(
        url
    )  # creates the role, or says who can; and proves that this user has the rights needed below
    with connect(url, "ludoteca restore", role="") as conn:
        _check_is_unused(conn)
    schemas = [*SCHEMAS[LOG], *(() if without_keys else SCHEMAS[KEYS])]
    with ExitStack() as stack:
        dumps = [
            stack.enter_context(_as_sql(folder / name)) for name in (LOG, KEYS) if name in wanted
        ]
        script: list[bytes | subprocess.Popen[bytes]] = [
            _opening(schemas),
            *dumps,
            _closing(manifest),
        ]
        _run_script(url, script, lambda: _report_restored(progress, url, manifest.position))
        progress("events restored", manifest.position, manifest.position)
    migrate(url)  # the backup may be of an older release
    if images is not None and IMAGES in wanted:
        with tarfile.open(folder / IMAGES) as tar:
            tar.extractall(images.parent, filter="data")
    if home is not None:
        for name in backup_of_home.restore(folder, wanted, home):
            logger.warning("%s in %s stays as it is: it knows more than the backup's", name, home)
    return manifest


def _check(path: Path, file: File, progress: Progress) -> None:
    try:
        found = _describe(path, progress)
    except FileNotFoundError:
        hint = (
            "; --without-keys leaves them out, and everybody is forgotten"
            if path.name == KEYS
            else ""
        )
        raise BackupError(f"the backup lacks {path.name}{hint}") from None
    if found != file:
        raise BackupError(
            f"{path} is not what was written: it has {found.bytes} bytes of {file.bytes}, or others"
        )


def _check_is_unused(conn: psycopg.Connection) -> None:
    if _one(conn, "SELECT EXISTS (SELECT FROM log.events)"):
        raise BackupError("the database has a log already: restore into an empty one")
    if _one(conn, _OTHER_SESSIONS):
        raise BackupError("processes of a shop use this database: stop them first")


def _opening(schemas: Sequence[str]) -> bytes:
    """Begin, and drop the empty schemas that the migrations have made. Nothing is committed before
    `_closing`: if this process is killed, psql reaches the end of its input, and the server rolls
    back."""
    return f"BEGIN;\nDROP SCHEMA {', '.join(schemas)} CASCADE;\n".encode()


def _closing(manifest: Manifest) -> bytes:
    """Check what was restored, and commit. Read models have no rows, and are rebuilt; reactors
    continue where they were. A new epoch shows processes and search indexes that events after the
    backup are gone."""
    return "".join(
        [
            _CHECK_END_OF_LOG.format(position=manifest.position, hash=manifest.hash),
            _FORGET_READ_MODELS,
            _BEGIN_EPOCH.format(made_at=manifest.made_at),
            "COMMIT;\n",
        ]
    ).encode()


# -- PostgreSQL's programs -------------------------------------------------------------------------


@contextmanager
def _as_sql(dump: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(program("pg_restore")), "--file=-", "--no-owner", str(dump)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _run_script(
    url: str, parts: Sequence[bytes | subprocess.Popen[bytes]], report: Callable[[], None]
) -> None:
    """Run a script in psql, some parts of which are the output of other programs."""
    options = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    where, environment = access(url, "ludoteca backup")
    command = [str(program("psql")), *options, "--file=-", where]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as psql:
        assert psql.stdin is not None
        try:
            for part in parts:
                if isinstance(part, bytes):
                    psql.stdin.write(part)
                else:
                    _pour(part, psql.stdin, report)
            psql.stdin.close()
        except BrokenPipeError:  # psql ended; its stderr says why
            pass
        except BaseException:
            psql.kill()
            raise
        messages = psql.stderr.read().decode(errors="replace") if psql.stderr else ""
        if psql.wait():
            raise BackupError(f"nothing was restored: {_last_line(messages)}")


def _pour(source: subprocess.Popen[bytes], into: IO[bytes], report: Callable[[], None]) -> None:
    assert source.stdout is not None
    reported = time.monotonic()
    while chunk := source.stdout.read(1 << 20):
        into.write(chunk)
        if time.monotonic() - reported > POLL_SECONDS:
            report()
            reported = time.monotonic()
    if source.wait():
        messages = source.stderr.read().decode(errors="replace") if source.stderr else ""
        raise BackupError(f"the backup cannot be read: {_last_line(messages)}")


def _run(command: Sequence[str], url: str, report: Callable[[], None]) -> None:
    where, environment = access(url, "ludoteca backup")
    started = [str(program(command[0])), *command[1:], f"--dbname={where}"]
    null = (
        subprocess.DEVNULL
    )  # this process's own stdout may be closed, and is reserved for its messages
    with subprocess.Popen(started, stdout=null, stderr=subprocess.PIPE, env=environment) as process:
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
        raise BackupError(f"{command[0]} failed: {_last_line(messages.decode(errors='replace'))}")


def _events_copied(url: str) -> int:
    """How many events pg_dump or psql has copied so far."""
    with connect(url, "ludoteca backup progress", role="") as conn:
        return int(_one(conn, _EVENTS_COPIED))


def _report_restored(progress: Progress, url: str, position: int) -> None:
    progress("events restored", _events_copied(url), position)


def _describe(path: Path, progress: Progress) -> File:
    """The size and hash of a file."""
    size, done, digest = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            done += len(chunk)
            progress(f"bytes of {path.name} checked", done, size)
    return File(size, digest.hexdigest())


def _last_line(messages: str) -> str:
    lines = [line for line in messages.strip().splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line or "error" in line]
    return (errors or lines or ["no reason was given"])[0]


def _one(conn: psycopg.Connection, query: str) -> Any:
    row = conn.execute(query.encode()).fetchone()
    return row[0] if row else None
