"""The part of a backup that comes from HOME: the simulators' books, to whose payments and receipts
the log refers, the first ADMIN's password, and the master key where it is in HOME."""

import shutil
from collections.abc import Collection
from pathlib import Path

from adapters import sqlite_file
from runtime.home import MASTER_KEY_FILE, PASSWORD_FILE

BOOKS = ("provider.sqlite3", "fiscal.sqlite3")
PORTS = ("provider-port.txt", "fiscal-port.txt")
"""The files with the simulators' ports, which are part of links in the log and the books (3-D
Secure pages, receipts)."""

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
    """Copy these files from a backup. An existing master key stays beside the backup's. Existing
    books stay, and with them their ports: nothing
    outside the log went back in time, so they know more. Returns the names of the books that stay.
    Raises OSError."""
    kept = [book for book in BOOKS if (home / book).exists()]
    stays = {*kept, *(port for book, port in zip(BOOKS, PORTS, strict=True) if book in kept)}
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


def _add_master_keys(saved: Path, own: Path) -> None:
    """Add the master keys of a backup to those of HOME."""
    known = own.read_text(encoding="ascii").splitlines() if own.exists() else []
    lines = known + [each for each in saved.read_text("ascii").splitlines() if each not in known]
    half = own.with_name(f".{own.name}.part")
    half.touch(mode=0o600)
    half.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    half.replace(own)
