"""A PostgreSQL primary and its asynchronous standby, for one test, behind one URL."""

import shutil
import signal
import subprocess
from typing import Self
from urllib.parse import quote

import psycopg

from adapters.postgres.embedded import EmbeddedPostgres
from adapters.postgres.programs import program
from tests.support.servers.own_postgres import QUICK, OwnPostgres, signal_all
from tests.support.servers.shared import quick_folder


class Pair:
    """`with Pair() as pair`: the primary serves; the standby replicates it once `start`ed, until it
    is promoted."""

    def __init__(self, **settings: str) -> None:
        """`settings` are those of the standby, added to QUICK."""
        self._settings = settings
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
        self.standby = EmbeddedPostgres(self._home, settings={**QUICK, **self._settings})
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
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

    def pause_replay(self) -> None:
        """Have the standby receive, but not show, what the primary does from now on."""
        self._ask_standby("SELECT pg_wal_replay_pause()")
        while self._ask_standby("SELECT pg_get_wal_replay_pause_state()") != ("paused",):
            pass

    def resume_replay(self) -> None:
        """Have the standby go on."""
        self._ask_standby("SELECT pg_wal_replay_resume()")

    def freeze(self) -> None:
        """Pause all processes of the standby by SIGSTOP."""
        signal_all(self.standby, signal.SIGSTOP)

    def go_on(self) -> None:
        """Resume them by SIGCONT."""
        signal_all(self.standby, signal.SIGCONT)

    def promote(self) -> None:
        """Make the standby a primary beside the other."""
        self._ask_standby("SELECT pg_promote(true)")

    def _ask_standby(self, query: str) -> tuple[object, ...] | None:
        with psycopg.connect(self.standby.url, autocommit=True) as conn:
            return conn.execute(query.encode()).fetchone()

    def fail_over(self, *, in_order: bool = False) -> None:
        """Stop the primary and promote the standby with the events that it has: with all of them,
        if the primary stopped in order."""
        if in_order:
            self.primary.shut_down()
        else:
            self.primary.kill()
        self.promote()
