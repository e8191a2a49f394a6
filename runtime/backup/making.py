"""Make a backup, of all events or of those since another backup."""

import fcntl
import gzip
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, cast

import psycopg

from eventstore.database.migrations import missing
from eventstore.database.postgres import connect
from eventstore.database.release import RELEASE
from runtime.archive.lines import Header
from runtime.archive.writing import BrokenLog, write
from runtime.backup import of_home
from runtime.backup.dumps import dump
from runtime.backup.manifest import (
    EVENTS,
    FORMAT,
    IMAGES,
    MANIFEST,
    SCHEMAS,
    BackupError,
    Manifest,
    describe,
    read_manifest,
    write_manifest,
)
from runtime.output.console import Progress
from runtime.output.files import errors_naming
from runtime.release.migrate import FOLDERS

IN_ARCHIVE = ("log.events", "log.once")
"""The tables whose rows are in the archive of events."""

FILES = (*SCHEMAS, EVENTS, IMAGES, MANIFEST, *of_home.FILES)
"""Everything that a backup may have; SQLite adds a suffix while it writes."""

IMAGE_MARGIN = timedelta(days=1)
"""How much older than the previous backup an image may look and count as new: its time is that of
the machine that stored it."""


def backup(
    url: str,
    target: Path,
    images: Path | None,
    progress: Progress,
    *,
    home: Path | None = None,
    since: Path | None = None,
) -> Manifest:
    """Write a backup of the database at `url` into a new folder, which appears only when it is
    complete and on the disk.

    The shop may be running: the whole database is copied from one snapshot, and the chain of its
    events is verified. With `since`, the folder of an earlier backup (of which only the manifest
    need be there), events and images that it has are left out. `images` is the folder of image
    files, if any; `home` contains the simulators' books. Raises BackupError, OSError,
    psycopg.Error.
    """
    before = None if since is None else _continued(since)
    if target.exists():
        raise BackupError(f"{target} is there already: name a new folder")
    if not target.parent.is_dir():
        raise BackupError(f"{target.parent} is not there: is something not mounted?")
    half = target.with_name(target.name + ".part")
    with errors_naming(half, target), _only_one(half, target):
        try:
            manifest = _write(url, half, images, home, before, progress)
            half.rename(target)
            _sync(target.parent)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise
    return manifest


@contextmanager
def _only_one(half: Path, target: Path) -> Iterator[None]:
    """Make the folder for what is half written, in which no other backup writes until the end of
    the block. What one that was killed has left there is removed. A folder that is somebody else's,
    or has other files, is left alone. Raises BackupError, OSError."""
    half.mkdir(mode=0o700, exist_ok=True)
    try:
        descriptor = os.open(half, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise _in_the_way(half) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"{target} is being written by another backup") from None
        owned = os.fstat(descriptor).st_uid == os.geteuid()
        # by name: another may have completed its backup just now
        left = list(half.iterdir()) if owned else []
        if not owned or not all(path.name.startswith(FILES) for path in left):
            raise _in_the_way(half)
        os.fchmod(descriptor, 0o700)
        for path in left:
            path.unlink()
        yield
    finally:
        os.close(descriptor)


def _in_the_way(half: Path) -> BackupError:
    return BackupError(f"{half} is in the way, and no backup left it there: remove it first")


def _continued(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    if EVENTS not in manifest.files:
        raise BackupError(f"{folder} is of an older release: make a backup of all events first")
    return manifest


def _write(
    url: str,
    folder: Path,
    images: Path | None,
    home: Path | None,
    before: Manifest | None,
    progress: Progress,
) -> Manifest:
    made_at = datetime.now(UTC)
    with connect(url, "ludoteca backup", role="") as conn, conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        if due := missing(conn, FOLDERS):
            raise BackupError(
                f"the database is of an older release, it lacks {', '.join(due)}: start this one"
                " first"
            )
        snapshot = _snapshot(conn)
        for name, schemas in SCHEMAS.items():
            path = folder / name
            progress(f"{name} written", 0, 1)
            dump(url, path, snapshot, schemas, without_rows=IN_ARCHIVE, report=lambda: None)
            progress(f"{name} written", 1, 1)
        header = _write_events(conn, folder, before, progress)
    names = [*SCHEMAS, EVENTS]
    # an image's name is its hash, so one that was added since the snapshot does no harm
    if images is not None and images.is_dir():
        since = before.made_at - IMAGE_MARGIN if before else None
        _write_images(images, folder / IMAGES, since)
        names.append(IMAGES)
    if home is not None:
        try:
            names += of_home.save(home, folder)
        except sqlite3.Error as error:
            raise BackupError(
                f"the books of a simulator in {home} cannot be copied: {error}"
            ) from error
    files = {name: describe(folder / name, progress) for name in names}
    manifest = Manifest(
        FORMAT,
        RELEASE,
        made_at,
        header.position,
        header.hash,
        files,
        header.after,
        header.after_hash,
    )
    write_manifest(folder, manifest)
    for path in folder.iterdir():  # they stay private wherever the folder is moved to
        path.chmod(0o600)
        _sync(path)
    _sync(folder)
    return manifest


def _sync(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _snapshot(conn: psycopg.Connection) -> str:
    row = conn.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    return str(row[0])


def _write_events(
    conn: psycopg.Connection, folder: Path, before: Manifest | None, progress: Progress
) -> Header:
    after = 0 if before is None else before.position
    try:
        with gzip.open(folder / EVENTS, "wb", compresslevel=1) as file:
            header = write(conn, cast(BinaryIO, file), after, progress)
    except BrokenLog as error:
        raise BackupError(str(error)) from error
    if before is not None and header.after_hash != before.hash:
        raise BackupError(
            f"at position {after} the log is another one than when that backup was made: it was"
            " restored, or is of another shop. Make a backup of all events"
        )
    return header


def _write_images(images: Path, path: Path, since: datetime | None) -> None:
    """Write the images that were stored since a time, or all."""

    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        old = since is not None and member.isfile() and member.mtime < since.timestamp()
        return None if old else member

    with tarfile.open(path, "w") as tar:
        tar.add(images, "images", filter=wanted)
