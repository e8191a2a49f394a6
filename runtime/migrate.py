"""Which migrations make up the program's database."""

from pathlib import Path

import adapters
import projections
from eventstore import migrations, release

FOLDERS = [
    ("eventstore", migrations.SQL),
    ("adapters", Path(adapters.__file__).parent / "sql"),
    ("projections", Path(projections.__file__).parent / "sql"),
]


def migrate(url: str) -> list[str]:
    """Bring the database at `url` to this program's schema; returns what ran. Safe to call from several processes.

    Raises MigrationError, OutdatedRelease.
    """
    return migrations.migrate(url, FOLDERS, release.begin)
