"""The manifest of a backup: what it has, and the hashes of its files."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from eventstore.database.release import RELEASE
from kit.json_errors import JSON_ERRORS
from runtime.output.console import Progress

FORMAT = 2
"""In format 1, `log.dump` has the events, too."""

EVENTS, LOG, KEYS = "events.jsonl.gz", "log.dump", "keys.dump"
IMAGES, MANIFEST = "images.tar", "manifest.json"

SCHEMAS: Mapping[str, tuple[str, ...]] = {
    LOG: ("log", "consumers", "queue"),
    KEYS: ("private",),
}
"""The schemas of each dump."""


class BackupError(Exception):
    """A backup cannot be made or restored. The message says why."""


class File(msgspec.Struct, frozen=True):
    """A file of a backup."""

    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """The content of a backup: the events behind the position `after`, at which the chain has
    `after_hash` (hex), up to `position`, whose event has `hash`; the state of everything else at
    `position`; and the `files` by name. A backup of all events begins after position 0."""

    format: int
    release: int
    made_at: datetime
    position: int
    hash: str
    files: Mapping[str, File]
    after: int = 0
    after_hash: str = ""


def read_manifest(folder: Path) -> Manifest:
    """Read and check a backup's manifest. Raises BackupError."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise BackupError(f"{folder} is no backup: it has no {MANIFEST}") from None
    except JSON_ERRORS as error:
        raise BackupError(f"{folder / MANIFEST} is damaged: {error}") from None
    if manifest.format > FORMAT or manifest.release > RELEASE:
        raise BackupError(
            f"the backup is of release {manifest.release}, and this is release {RELEASE}: use"
            " that one"
        )
    due = {*SCHEMAS} if manifest.format < FORMAT else {*SCHEMAS, EVENTS}
    if lacking := sorted(due - manifest.files.keys()):
        raise BackupError(f"{folder / MANIFEST} is damaged: it lacks {', '.join(lacking)}")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it. Raises OSError."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(text + b"\n")


def describe(path: Path, progress: Progress) -> File:
    """The size and hash of a file. Raises OSError."""
    size, done, digest = path.stat().st_size, 0, hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            done += len(chunk)
            progress(f"bytes of {path.name} checked", done, size)
    return File(size, digest.hexdigest())


def check_file(path: Path, file: File, progress: Progress) -> None:
    """Raises BackupError unless the file is there, and as it was written; OSError."""
    try:
        found = describe(path, progress)
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
