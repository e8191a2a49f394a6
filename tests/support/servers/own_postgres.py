"""A PostgreSQL of a test's own: with settings, read-only, full, stopped, killed."""

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict

from adapters.postgres.embedded import EmbeddedPostgres
from adapters.postgres.programs import EmbeddedPostgresError
from runtime.migrate import migrate
from tests.support.servers.shared import quick_folder

QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_wal_size": "64MB",
}


class OwnPostgres:
    """`with OwnPostgres() as server: use(server.url)`: migrated and empty. Only the thread that
    runs the tests may start it.
    """

    def __init__(self, *, disk_mb: int | None = None, **settings: str) -> None:
        """`disk_mb`: its data lies on a file system (tmpfs) of this size, which `fill` fills: needs
        root. `settings` are PostgreSQL's, on top of QUICK ones.
        """
        self.home = quick_folder("ludoteca-faults-")
        self._mounted = disk_mb is not None
        if disk_mb is not None:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={disk_mb}m", "tmpfs", self.home], check=True
            )
            self.home.chmod(0o755)
        self._server = EmbeddedPostgres(self.home, settings={**QUICK, **settings})
        self._stuffing = self.home / "stuffing"

    def __enter__(self) -> Self:
        self.start()
        migrate(self.url)
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self.free()
        self._server.stop()
        if self._mounted:
            subprocess.run(["umount", "-l", self.home], check=True)
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def url(self) -> str:
        """Where to connect, as its superuser."""
        return self._server.url

    def run(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Rows of a statement of the superuser's."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            cursor = conn.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    # -- being there -------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, if it does not run."""
        self._server.start()

    def revive(self) -> None:
        """Start it, if it has ended and is able to, as the supervisor does again and again."""
        with suppress(EmbeddedPostgresError):
            self._server.start()

    def shut_down(self) -> None:
        """Stop it in order."""
        self._server.stop()

    def kill(self) -> None:
        """kill -9 at every process of it."""
        self._signal(signal.SIGKILL)
        if self._server._server is not None:
            self._server._server.wait()

    def pause(self) -> None:
        """SIGSTOP at every process of it: the kernel still takes connections and what they send."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self) -> list[int]:
        server = self._server.pid
        if server is None:
            return []
        found = subprocess.run(
            ["pgrep", "-P", str(server)], capture_output=True, text=True, check=False
        ).stdout
        return [server, *map(int, found.split())]

    # -- being of use ------------------------------------------------------------------------------

    def read_only(self) -> None:
        """As a demoted server: new transactions, of sessions that are there too, may only read."""
        self._set_read_only("on")

    def writable(self) -> None:
        self._set_read_only("off")

    def _set_read_only(self, value: str) -> None:
        self._do(
            f"ALTER SYSTEM SET default_transaction_read_only = {value}", "SELECT pg_reload_conf()"
        )

    def read_only_from_now_on(self) -> None:
        """As `read_only`, but for sessions that begin from now on."""
        self._do(f"ALTER DATABASE {self._database} SET default_transaction_read_only = on")

    def writable_from_now_on(self) -> None:
        self._do(f"ALTER DATABASE {self._database} RESET default_transaction_read_only")

    def end_sessions(self) -> None:
        """pg_terminate_backend, for all but who does it."""
        self._do(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> '' AND pid <>"
            " pg_backend_pid()"
        )

    def sessions(self) -> int:
        """How many have begun, ever; as the server counts them, which is told a second late."""
        return int(
            self.run("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")[0][
                0
            ]
        )

    @property
    def _database(self) -> str:
        return str(conninfo_to_dict(self.url)["dbname"])

    def _do(self, *statements: str) -> None:
        with psycopg.connect(
            self.url, autocommit=True, options="-c default_transaction_read_only=off"
        ) as conn:
            for statement in statements:
                conn.execute(statement.encode())

    def fill(self, *, leave_kb: int = 0) -> None:
        """Take what is left of its disk."""
        free = shutil.disk_usage(self.home).free - leave_kb * 1024
        with self._stuffing.open("ab") as stuffing, suppress(OSError):
            os.posix_fallocate(stuffing.fileno(), 0, self._stuffing.stat().st_size + max(free, 1))

    @contextmanager
    def full(self) -> Iterator[None]:
        """With a disk that is full to the last page, whatever it gives back meanwhile."""
        over = threading.Event()

        def keep_full() -> None:
            while not over.wait(0.002):
                self.fill()

        self.fill()
        thread = threading.Thread(target=keep_full)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.free()

    def free(self) -> None:
        """Give it back."""
        self._stuffing.unlink(missing_ok=True)
