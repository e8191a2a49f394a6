"""A PostgreSQL primary and its asynchronous standby, for one test, behind one URL."""

import shutil
import subprocess
from typing import Self
from urllib.parse import quote

import psycopg

from adapters.postgres.embedded import EmbeddedPostgres
from adapters.postgres.programs import program
from tests.support.servers.own_postgres import QUICK, OwnPostgres
from tests.support.servers.shared import quick_folder


class Pair:
    """`with Pair() as pair`: the primary serves; the standby replicates it once `start`ed, until it
    is promoted."""

    def __init__(self) -> None:
        self.primary = OwnPostgres(wal_keep_size="64MB")
        self._home = quick_folder("ludoteca-standby-")

    def __enter__(self) -> Self:
        self.primary.__enter__()
        data, copy = self.primary.home / "postgres", self._home / "postgres"
        arguments = [
            "--write-recovery-conf",
            "--checkpoint=fast",
            f"--pgdata={copy}",
            f"--dbname={self.primary.url}",
        ]
        subprocess.run([program("pg_basebackup"), *arguments], check=True, capture_output=True)
        owner = data.stat()
        shutil.chown(copy, owner.st_uid, owner.st_gid)
        for path in copy.rglob("*"):
            shutil.chown(path, owner.st_uid, owner.st_gid)
        self.standby = EmbeddedPostgres(self._home, settings=QUICK)
        return self

    def __exit__(self, *_: object) -> None:
        self.standby.stop()
        shutil.rmtree(self._home, ignore_errors=True)
        self.primary.__exit__()

    @property
    def url(self) -> str:
        """A URL with both servers; it leads to the writable one."""
        hosts = ",".join(
            quote(str(server._sockets)) for server in (self.primary._server, self.standby)
        )
        return f"postgresql://postgres@/ludoteca?host={hosts}&port=5432,5432"

    def catch_up(self) -> None:
        """Wait until the standby has everything that the primary has."""
        (end,) = self.primary.run("SELECT pg_current_wal_lsn()::text")[0]
        with psycopg.connect(self.standby.url, autocommit=True) as conn:
            while not conn.execute(
                "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [end]
            ).fetchone()[0]:  # type: ignore[index]
                pass

    def fail_over(self, *, in_order: bool = False) -> None:
        """Stop the primary and promote the standby with the events that it has: with all of them,
        if the primary stopped in order."""
        if in_order:
            self.primary.shut_down()
        else:
            self.primary.kill()
        with psycopg.connect(self.standby.url, autocommit=True) as conn:
            conn.execute("SELECT pg_promote(true)")
