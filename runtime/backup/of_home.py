"""The part of a backup that comes from HOME: the simulators' books, to whose payments and receipts
the log refers, the first ADMIN's password, and the master key where it is in HOME."""

import hashlib
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from adapters import sqlite_file
from runtime.host.home import MASTER_KEY_FILE, PASSWORD_FILE

BOOKS = ("provider.sqlite3", "fiscal.sqlite3")
PORTS = ("provider-port.txt", "fiscal-port.txt")
"""The files with the simulators' ports, which are part of links in the log and the books (3-D
Secure pages, receipts)."""

PUT_BY_RESTORE = "unfinished-restore.txt"
"""The books that a restore has put into HOME and that has not committed yet, as lines of
`sha256sum`. While they are as it put them, they know no more than its backup."""

FILES = (*BOOKS, *PORTS, PASSWORD_FILE, MASTER_KEY_FILE)
"""All of them."""


def save(home: Path, folder: Path) -> list[str]:
    """Copy these files into a backup, also while the simulators run. Returns their names. Call it
    after the log was copied, so that the books know everything that the log knows. Raises
    sqlite3.Error, OSError."""
    found = [name for name in FILES if (home / name).is_file()]
    for name in found:
        (sqlite_file.copy if name in BOOKS else shutil.copyfile)(home / name, folder / name)
    return found


def restore(folder: Path, names: Collection[str], home: Path) -> list[str]:
    """Copy these files from a backup; call `finish` once the log is restored. An existing master
    key stays beside the backup's. Existing books stay, and with them their ports: nothing outside
    the log went back in time, so they know more; unless an unfinished restore left them. Returns
    the names of the books that stay. Raises OSError."""
    left = _lines(home / PUT_BY_RESTORE)
    kept = [
        book
        for book in BOOKS
        if (home / book).exists()
        and (_sum(home / book) not in left or home.joinpath(f"{book}-wal").exists())
    ]
    stays = {*kept, *(port for book, port in zip(BOOKS, PORTS, strict=True) if book in kept)}
    put = [_sum(folder / book) for book in BOOKS if book in names and book not in stays]
    if put:  # with those of before, which are there until they are replaced
        _write(home / PUT_BY_RESTORE, [*left, *(line for line in put if line not in left)])
    for name in [
        name for name in (*BOOKS, *PORTS, PASSWORD_FILE) if name in names and name not in stays
    ]:
        half = home / f".{name}.part"
        half.touch(mode=0o600)
        shutil.copyfile(folder / name, half)
        half.replace(home / name)
    if MASTER_KEY_FILE in names:
        _add_master_keys(folder / MASTER_KEY_FILE, home / MASTER_KEY_FILE)
    return [name for name in kept if name in names]


def finish(home: Path) -> None:
    """Remember that the log which fits the books in HOME is restored. Raises OSError."""
    (home / PUT_BY_RESTORE).unlink(missing_ok=True)


def _sum(book: Path) -> str:
    with book.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {book.name}"


def _lines(path: Path) -> list[str]:
    return path.read_text("ascii").splitlines() if path.exists() else []


def _write(path: Path, lines: Iterable[str]) -> None:
    """Replace a file, which only its owner may read, by these lines."""
    half = path.with_name(f".{path.name}.part")
    half.touch(mode=0o600)
    half.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    half.replace(path)


def _add_master_keys(saved: Path, own: Path) -> None:
    """Add the master keys of a backup to those of HOME."""
    known = _lines(own)
    _write(own, known + [each for each in _lines(saved) if each not in known])
