"""The schema of the log alone, dumped and restored by PostgreSQL's own programs."""

import subprocess
import tempfile
from pathlib import Path

import psycopg

from adapters.postgres.programs import program


class LogDump:
    """`keep` dumps the schema `log` of a database, and `put_back` restores it; all other schemas
    stay as they are."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._dump = Path(tempfile.mkdtemp(prefix="ludoteca-log-")) / "log.dump"

    def keep(self) -> None:
        self._run(
            "pg_dump",
            "--format=custom",
            "--schema=log",
            f"--file={self._dump}",
            f"--dbname={self._url}",
        )

    def put_back(self, *options: str, by_hand: bool = False) -> None:
        """With `by_hand`, into a newly created schema, as from a dump of more than this schema."""
        with psycopg.connect(self._url, autocommit=True) as conn:
            conn.execute("DROP SCHEMA log CASCADE")
            if by_hand:
                conn.execute("CREATE SCHEMA log")
        chosen = [*options, "--schema=log"] if by_hand else options
        self._run(
            *("pg_restore", "--exit-on-error", "--single-transaction", *chosen),
            *(f"--dbname={self._url}", str(self._dump)),
        )

    @staticmethod
    def _run(name: str, *arguments: str) -> None:
        subprocess.run([program(name), *arguments], check=True, capture_output=True)
