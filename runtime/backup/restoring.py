"""Restore a shop from backups: one of all events, and any number that each continue the one
before."""

import logging
import tarfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import psycopg

from eventstore.database.postgres import connect
from runtime.archive.lines import ArchiveFault
from runtime.archive.loading import LogDoesNotFit, check_unused, load
from runtime.archive.reading import Archive, Checkers, check_joints, position_at, verify
from runtime.backup import of_home
from runtime.backup.dumps import execute
from runtime.backup.manifest import (
    EVENTS,
    IMAGES,
    KEYS,
    LOG,
    SCHEMAS,
    BackupError,
    Manifest,
    check_file,
    read_manifest,
)
from runtime.host.home import MASTER_KEY_FILE, PASSWORD_FILE
from runtime.output.console import Progress
from runtime.release.migrate import migrate

logger = logging.getLogger(__name__)

_SECRETS = frozenset({KEYS, PASSWORD_FILE, MASTER_KEY_FILE})
_KEPT_APART = frozenset({PASSWORD_FILE, MASTER_KEY_FILE})
"""What an operator may keep elsewhere: a restore works without."""

_END_OF_LOG = "SELECT position, encode(hash, 'hex') FROM log.events ORDER BY position DESC LIMIT 1"

_IS_MIRROR = "SELECT FROM log.mirror"
_END_MIRROR = """
ALTER TABLE log.events DISABLE TRIGGER only_the_mirror;
DELETE FROM log.mirror
"""
_BEGIN_MIRROR = """
INSERT INTO log.mirror (commit_position, position) VALUES (0, 0);
ALTER TABLE log.events ENABLE ALWAYS TRIGGER only_the_mirror
"""
"""It will compare all events with KurrentDB's, and go on with what came since. Until then nothing
is appended."""
_FORGET_READ_MODELS = """
DELETE FROM consumers.quarantine WHERE feed IN (
    SELECT feed FROM consumers.feeds WHERE storage <> ''
);
DELETE FROM consumers.feeds WHERE storage <> '';
-- the shop that was backed up may go on writing to its indices
DELETE FROM private.secrets WHERE name = 'index_prefix';
"""

_BEGIN_EPOCH = "SELECT log.begin_epoch((SELECT max(number) FROM log.epochs), %s)"


class _Backup(NamedTuple):
    folder: Path
    manifest: Manifest


class Restored(msgspec.Struct, frozen=True):
    """Where the log ends, and when its events and everything else were backed up."""

    position: int
    made_at: datetime


def check(folders: Sequence[Path], checkers: Checkers, progress: Progress) -> Manifest:
    """Check completely, without a database, that these backups can be restored: their files, the
    chain of their events, and that each continues the one before. Returns the last one's manifest.
    Raises BackupError, OSError."""
    backups = _read(folders)
    _check_files(backups, progress, without_keys=False)
    try:
        if archives := _archives(backups):
            verify(archives, checkers, progress)
    except ArchiveFault as error:
        raise BackupError(str(error)) from error
    return backups[-1].manifest


def restore(
    url: str,
    folders: Sequence[Path],
    images: Path | None,
    kinds: Mapping[str, str],
    checkers: Checkers,
    progress: Progress,
    *,
    home: Path | None = None,
    without_keys: bool = False,
    until: int | datetime | None = None,
) -> Restored:
    """Restore backups into the database at `url`, whose log must be empty: completely or not at
    all.

    The first backup has all events, each other one continues the one before. `until` is the last
    position, or moment, to be restored, not before the end of the first backup: everything else
    then is as of the last backup before it, from where consumers go on; but keys are the latest,
    so that nobody is known again who has been forgotten since.

    `kinds` are the kinds of streams of the program's events. With `without_keys`, the persons' keys
    and the secrets are left out, so that everybody is forgotten for good. Simulators' books that
    `home` already has are kept, unless an unfinished restore put them there. Raises
    BackupError, OSError, psycopg.Error.
    """
    backups = _read(folders)
    _check_files(backups, progress, without_keys=without_keys)
    try:
        archives = _archives(backups)
        upto = _last_position(backups, archives, until)
    except ArchiveFault as error:
        raise BackupError(str(error)) from error
    state = next(each for each in reversed(backups) if each.manifest.position <= upto)
    # creates the role, or says who can; and proves that this user has the rights needed below
    migrate(url)
    with connect(url, "ludoteca restore", role="") as conn:
        _check_is_unused(conn)
        try:
            with conn.transaction():
                _put(conn, state.folder, LOG, progress)
                if not without_keys:
                    _put(conn, backups[-1].folder, KEYS, progress)
                if archives:
                    mirrors = conn.execute(_IS_MIRROR).fetchone() is not None
                    conn.execute(_END_MIRROR)
                    load(conn, archives, kinds, checkers, progress, upto=upto, consumers=False)
                    if mirrors:
                        conn.execute(_BEGIN_MIRROR)
                _finish(conn, state.manifest, upto)
                # before the commit, as a disk may be full: a log that has lost its images and its
                # master key could not be restored again
                _put_files(backups, images, home, without_keys=without_keys)
        except (psycopg.Error, ArchiveFault, LogDoesNotFit) as error:
            raise BackupError(f"nothing was restored: {_first_line(error)}") from error
    if home is not None:
        of_home.finish(home)
    migrate(url)  # the backup may be of an older release
    return Restored(upto, state.manifest.made_at)


def _read(folders: Sequence[Path]) -> list[_Backup]:
    """The backups, the first of which has all events."""
    backups = [_Backup(folder, read_manifest(folder)) for folder in folders]
    first = backups[0]
    if first.manifest.after:
        raise BackupError(
            f"{first.folder} begins after position {first.manifest.after}: name the backups before"
            " it, too, the oldest first"
        )
    for folder, manifest in backups[1:]:
        if EVENTS not in first.manifest.files or EVENTS not in manifest.files:
            raise BackupError(f"{folder} does not continue {first.folder}, which has all events")
    return backups


def _archives(backups: Sequence[_Backup]) -> list[Archive]:
    """The archives, which fit each other and their manifests; none in a backup by an older
    release, whose dump has the events."""
    archives = []
    for folder, manifest in backups:
        if EVENTS not in manifest.files:
            continue
        archive = Archive(folder / EVENTS)
        header = archive.header
        if (header.position, header.hash) != (manifest.position, manifest.hash):
            raise BackupError(f"{archive.path} does not end as the manifest says")
        if header.after != manifest.after:
            raise BackupError(f"{archive.path} does not begin as the manifest says")
        archives.append(archive)
    check_joints(archives)
    return archives


def _check_files(backups: Sequence[_Backup], progress: Progress, *, without_keys: bool) -> None:
    for folder, manifest in backups:
        last = folder == backups[-1].folder
        for name, file in manifest.files.items():
            if name in _SECRETS and (without_keys or not last):
                continue  # only the latest are restored
            if name in _KEPT_APART and not (folder / name).exists():
                continue
            check_file(folder / name, file, progress)


def _last_position(
    backups: Sequence[_Backup], archives: Sequence[Archive], until: int | datetime | None
) -> int:
    first, last = backups[0].manifest, backups[-1].manifest
    if until is None:
        return last.position
    if isinstance(until, datetime) and until > last.made_at:
        raise BackupError(f"the last backup is of {last.made_at:%F %T} UTC, and has nothing later")
    upto = position_at(archives, until) if isinstance(until, datetime) else until
    if upto > last.position:
        raise BackupError(f"the last backup ends at position {last.position}")
    if upto < first.position:
        raise BackupError(
            f"the first backup ends later, at position {first.position}, {first.made_at:%F %T} UTC:"
            " restore from an earlier one"
        )
    return upto


def _check_is_unused(conn: psycopg.Connection) -> None:
    row = conn.execute("SELECT EXISTS (SELECT FROM log.events)").fetchone()
    if row and row[0]:
        raise BackupError("the database has a log already: restore into an empty one")
    try:
        check_unused(conn)
    except LogDoesNotFit as error:
        raise BackupError(str(error)) from error


def _put(conn: psycopg.Connection, folder: Path, name: str, progress: Progress) -> None:
    """Replace the schemas, which the migrations have made and which are empty, by a dump's."""
    conn.execute(f"DROP SCHEMA {', '.join(SCHEMAS[name])} CASCADE".encode())
    execute(conn, folder / name, lambda rows: progress(f"rows of {name} restored", rows, rows))


def _finish(conn: psycopg.Connection, manifest: Manifest, upto: int) -> None:
    """Check where the log ends. Read models have no rows, and are rebuilt; reactors continue where
    they were. A new epoch shows processes and search indexes that later events are gone."""
    end = conn.execute(_END_OF_LOG).fetchone() or (0, manifest.hash)
    if end[0] != upto or (upto == manifest.position and end[1] != manifest.hash):
        raise BackupError("the log does not end as the backup says: restore another")
    conn.execute(_FORGET_READ_MODELS)
    reason = f"restored from the backup of {manifest.made_at:%F %T}"
    conn.execute(_BEGIN_EPOCH, (reason,))


def _put_files(
    backups: Sequence[_Backup], images: Path | None, home: Path | None, *, without_keys: bool
) -> None:
    for folder, manifest in backups:
        if images is not None and IMAGES in manifest.files:
            with tarfile.open(folder / IMAGES) as tar:
                tar.extractall(images.parent, filter="data")
    if home is None:
        return
    folder, manifest = backups[-1]
    names = manifest.files.keys() - (_SECRETS if without_keys else set())
    names -= {name for name in _KEPT_APART if not (folder / name).exists()}
    for name in of_home.restore(folder, names, home):
        logger.warning("%s in %s stays as it is: it knows more than the backup's", name, home)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
