"""Numbered SQL files, each run once, in order, under a lock, when a process starts."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from eventstore.postgres import connect

SQL = Path(__file__).parent / "sql"
_LOCK = (4910, 2)
_TABLE = """
CREATE TABLE IF NOT EXISTS public.ludoteca_migrations (
    component  text NOT NULL,
    number     int NOT NULL,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (component, number)
)"""


class MigrationError(Exception):
    """A migration that ran before has been edited, or a file's name has no number."""


def migrate(url: str, folders: Sequence[tuple[str, Path]]) -> list[str]:
    """Run what has not run yet of each (component, folder); returns the names of what ran.

    All of one call is one transaction: it happens whole or not at all. Processes that start together queue on a lock.
    """
    ran: list[str] = []
    with connect(url, "ludoteca migrations", role="") as conn, conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", _LOCK)
        conn.execute(_TABLE)
        known = {
            (component, number): digest
            for component, number, digest in conn.execute(
                "SELECT component, number, sha256 FROM public.ludoteca_migrations"
            )
        }
        for component, folder in folders:
            for path in sorted(folder.glob("*.sql")):
                number, text = _number(path), path.read_text(encoding="utf-8")
                digest = hashlib.sha256(text.encode()).hexdigest()
                if (component, number) in known:
                    if known[component, number] != digest:
                        raise MigrationError(f"{component}/{path.name} was edited after it ran; add a new file instead")
                    continue
                conn.execute(text.encode())
                conn.execute(
                    "INSERT INTO public.ludoteca_migrations (component, number, name, sha256) VALUES (%s, %s, %s, %s)",
                    (component, number, path.name, digest),
                )
                ran.append(f"{component}/{path.name}")
    return ran


def _number(path: Path) -> int:
    match = re.match(r"(\d{4})_", path.name)
    if not match:
        raise MigrationError(f"{path.name}: a migration's name starts with four digits")
    return int(match[1])
