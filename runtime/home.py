"""HOME: an instance's own folder. Its keys, mails, logs and books are for the user alone whom the
instance runs as."""

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

OTHERS = 0o077
"""The rights of everybody but the owner."""

PASSWORD_FILE = "admin-password.txt"  # noqa: S105 - a file's name
"""Where the first ADMIN's password is, when it is one that we made."""

_MARKS = {
    *("run.lock", "servers.json", "postgres.lock", PASSWORD_FILE),
    *("provider.sqlite3", "fiscal.sqlite3", "provider-port.txt", "fiscal-port.txt"),
}
"""Files that only an instance makes."""

_KNOWN = _MARKS | {"logs", "images", "mail", "push", "postgres", "postgres.new", "lost+found"}
"""What may be in a HOME before there are such files, the last where it is a volume of its own."""


class NotAHome(Exception):
    """A folder is something else than an instance's; the message says so."""


def open_home(home: Path) -> None:
    """Make HOME, if it is not there, and keep others out: of what is there, and of all that this
    process and those that it starts are going to make. Raises NotAHome, OSError; then nothing was
    changed."""
    os.umask(OTHERS)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    _must_be_ours(home)
    for path in _open_to_others(home):
        try:
            path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~OTHERS)
        except PermissionError:
            logger.warning("%s belongs to somebody else, and is open to others", path)
        except FileNotFoundError:  # another process has just moved it to its place
            continue


def _must_be_ours(home: Path) -> None:
    """Whoever sets HOME to /etc by mistake, as root, must not lose the rights of all that is
    there."""
    if home.lstat().st_mode & stat.S_ISVTX:
        return  # where nothing is closed
    entries = {entry.name: entry for entry in os.scandir(home)}
    others = [
        name for name in entries.keys() - _KNOWN if not entries[name].is_file(follow_symlinks=False)
    ]
    if others and not entries.keys() & _MARKS:  # a file alone may be what somebody has us print to
        raise NotAHome(
            f"LUDOTECA_HOME: {home} holds other things ({min(others)}) and no instance: name a"
            " folder for it alone"
        )


def _open_to_others(folder: Path) -> Iterator[Path]:
    """What others may enter or read: the folder, and what is in it. Into what is closed nobody
    comes, nor do we."""
    mode = folder.lstat().st_mode
    # /tmp and its like are everybody's, also when somebody makes them their HOME
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
