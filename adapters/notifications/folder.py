"""A folder of messages, each a file."""

import os
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from uuid import UUID


class MessageFolder:
    """A private folder that messages are written to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, name: str, content: bytes) -> str:
        """Write a file, whole or not at all, but without waiting for the disk. Returns its name.

        Not in a thread: changing to one and back takes longer than writing a file of this size.
        """
        path = self._path / name
        part = f"{path}.{os.getpid()}.part"
        with open(part, "wb", buffering=len(content) + 1) as file:
            file.write(content)
        os.replace(part, path)
        return name


def delete_older(folder: Path, before: datetime) -> int:
    """Delete a folder's messages that were written before this time. Returns their number."""
    count = 0
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if entry.is_file(follow_symlinks=False) and status.st_mtime < before.timestamp():
                    os.unlink(entry.path)
                    count += 1
    return count


def notifications_in(folder: Path) -> set[UUID]:
    """The ids of the notifications that a folder has messages of, also half written ones."""
    found = set()
    for name in _names(folder):
        with suppress(ValueError):
            found.add(UUID(name.partition(".")[0]))
    return found


def delete_of(folder: Path, notification_ids: Collection[UUID]) -> int:
    """Delete a folder's messages of these notifications. Returns their number."""
    prefixes = {str(each) for each in notification_ids}
    named = [name for name in _names(folder) if name.partition(".")[0] in prefixes]
    for name in named:
        (folder / name).unlink(missing_ok=True)
    return len(named)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
