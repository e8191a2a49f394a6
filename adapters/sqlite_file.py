"""A simulator's books: one SQLite file that one process writes and any other may copy meanwhile."""

import fcntl
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

_LOCK_POLL_SECONDS = 0.05


class SqliteFile:
    """A file that only this process may open, since a second one would repeat all that is due. `db`
    is in autocommit mode.

    WAL with `synchronous=NORMAL` loses nothing when the process is killed (a power cut may lose the
    last transactions), and does not wait for the disk on each commit.
    """

    def __init__(self, path: Path, lock_timeout_seconds: float = 5.0) -> None:
        """Raises sqlite3.OperationalError when another process holds the file for longer than
        `lock_timeout_seconds`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(path.with_name(f"{path.name}.lock"), lock_timeout_seconds)
        try:
            self.db = sqlite3.connect(path, timeout=lock_timeout_seconds, isolation_level=None)
            self.db.executescript("pragma journal_mode = wal; pragma synchronous = normal;")
        except BaseException:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Close the file and release its lock."""
        self.db.close()
        os.close(self._lock)


def copy(source: Path, target: Path) -> None:
    """Copy such a file as of one moment, even while a process writes it. Raises sqlite3.Error."""
    with closing(sqlite3.connect(source)) as reader, closing(sqlite3.connect(target)) as writer:
        reader.backup(writer)
        writer.execute("pragma journal_mode = delete")  # all of it is in the one file


def _locked(path: Path, timeout_seconds: float) -> int:
    """A lock file beside the database: SQLite's own lock would also exclude readers. It ends with
    the process."""
    lock, deadline = (
        os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600),
        time.monotonic() + timeout_seconds,
    )
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(lock)
                raise sqlite3.OperationalError(
                    f"the file is locked by another process: {path}"
                ) from None
            time.sleep(_LOCK_POLL_SECONDS)
