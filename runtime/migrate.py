"""Which migrations make up the program's database."""

from pathlib import Path

import adapters
import projections
from eventstore import migrations, release
from eventstore.postgres import check_server, connect
from runtime.settings import Settings

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


def prepare_database(url: str, settings: Settings) -> None:
    """Bring the database to this program's schema, unless it is one that cannot keep what the program promises.

    Raises UnsafeDatabase, MigrationError, OutdatedRelease, psycopg.OperationalError.
    """
    with connect(url, "ludoteca", role="") as conn:
        check_server(conn, allow_unsafe=settings.allow_unsafe_database == "on")
    migrate(url)
