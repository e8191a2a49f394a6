"""What a backup has of HOME: the books of the simulators, whose money and receipts the log speaks
of, and the first ADMIN's password."""

import shutil
from collections.abc import Collection
from pathlib import Path

from adapters import sqlite_file
from runtime.home import PASSWORD_FILE

BOOKS = ("provider.sqlite3", "fiscal.sqlite3")
PORTS = ("provider-port.txt", "fiscal-port.txt")
"""Links to 3-D Secure and to receipts, which the log and the books have, name the simulators'
ports."""


def save(home: Path, folder: Path) -> list[str]:
    """Copy into a backup what there is of that, also while the simulators run; returns the files'
    names.

    To be called after the log was copied: the books then know all that it knows. Raises
    sqlite3.Error, OSError.
    """
    found = [name for name in (*BOOKS, *PORTS, PASSWORD_FILE) if (home / name).is_file()]
    for name in found:
        (sqlite_file.copy if name in BOOKS else shutil.copyfile)(home / name, folder / name)
    return found


def put_back(folder: Path, names: Collection[str], home: Path) -> list[str]:
    """Copy from a backup. Books that are there stay, with their ports: outside the log nothing went
    back, and they know more. Returns the names of those that stay. Raises OSError.
    """
    kept = [book for book in BOOKS if (home / book).exists()]
    stays = {*kept, *(port for book, port in zip(BOOKS, PORTS, strict=True) if book in kept)}
    for name in [
        name for name in (*BOOKS, *PORTS, PASSWORD_FILE) if name in names and name not in stays
    ]:
        half = home / f".{name}.part"
        half.touch(mode=0o600)
        shutil.copyfile(folder / name, half)
        half.replace(home / name)
    return [name for name in kept if name in names]
