"""HOME: an instance's own folder. Its keys, mails, logs and books are private to the user that runs
the instance."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

OTHERS = 0o077
"""The permissions of everybody but the owner."""

PASSWORD_FILE = "admin-password.txt"  # noqa: S105 - a file's name
"""The file with the first ADMIN's password, if it was generated."""

MASTER_KEY_FILE = "master.key"
"""The file with the master keys of an instance with an embedded database."""

_MARKS = {
    *("run.lock", "servers.json", "postgres.lock", PASSWORD_FILE, MASTER_KEY_FILE),
    *("provider.sqlite3", "fiscal.sqlite3", "carrier.sqlite3"),
    *("provider-port.txt", "fiscal-port.txt", "carrier-port.txt"),
}
"""Files that only an instance creates."""

_KNOWN = _MARKS | {
    "logs",
    "images",
    "mail",
    "push",
    "checkpoints",
    "postgres",
    "postgres.new",
    "lost+found",
}
"""What a HOME may contain before an instance has created files; the last entry appears when HOME is
a volume."""


class NotAHome(Exception):
    """The folder is not an instance's. The message says why."""


def open_home(home: Path) -> None:
    """Create HOME if it does not exist, and make it private, along with everything in it and
    everything that this process and its children will create. Raises NotAHome, OSError; nothing was
    changed then."""
    os.umask(OTHERS)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_is_home(home)
    for path in _open_to_others(home):
        try:
            path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~OTHERS)
        except PermissionError:
            logger.warning("%s belongs to somebody else, and is open to others", path)
        except FileNotFoundError:  # another process has just renamed it
            continue


def _check_is_home(home: Path) -> None:
    """Raises NotAHome if the folder has other content. If root sets HOME to /etc by mistake, the
    permissions there must not change."""
    if home.lstat().st_mode & stat.S_ISVTX:
        return  # the file system has no permissions
    entries = {entry.name: entry for entry in os.scandir(home)}
    others = [
        name for name in entries.keys() - _KNOWN if not entries[name].is_file(follow_symlinks=False)
    ]
    if (
        others and not entries.keys() & _MARKS
    ):  # a lone file may be where somebody redirects our output
        raise NotAHome(
            f"LUDOTECA_HOME: {home} holds other things ({min(others)}) and no instance: name a"
            " folder for it alone"
        )


def _open_to_others(folder: Path) -> Iterator[Path]:
    """Yield the files and folders in HOME that others can read or enter. Folders that are already
    private are not searched."""
    mode = folder.lstat().st_mode
    # /tmp and the like belong to everybody, even if set as HOME
    if mode & stat.S_ISVTX:
        logger.warning("%s is everybody's folder: choose another LUDOTECA_HOME", folder)
        return
    for entry in os.scandir(folder):
        info = entry.stat(follow_symlinks=False)
        if info.st_mode & OTHERS and not entry.is_symlink():
            if entry.is_dir():
                yield from _open_to_others(Path(entry.path))
            else:
                yield Path(entry.path)
    if mode & OTHERS:
        yield folder
