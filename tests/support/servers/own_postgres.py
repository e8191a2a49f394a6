"""A PostgreSQL server for one test: with settings, read-only, full, stopped, killed."""

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
from runtime.release.migrate import migrate
from tests.support.servers.shared import quick_folder

QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_wal_size": "64MB",
}


class OwnPostgres:
    """`with OwnPostgres() as server: use(server.url)`: migrated and empty. Only the thread that
    runs the tests may start it."""

    def __init__(self, *, disk_mb: int | None = None, **settings: str) -> None:
        """`disk_mb`: put its data on a file system (tmpfs) of this size, which `fill` fills; needs
        root. `settings` are PostgreSQL's, added to QUICK."""
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
        """The URL, as its superuser."""
        return self._server.url

    def run(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser; returns its rows."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            cursor = conn.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    # -- running -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it unless it runs."""
        self._server.start()

    def revive(self) -> None:
        """Start it if it has ended and is able to start, as the supervisor does repeatedly."""
        with suppress(EmbeddedPostgresError):
            self._server.start()

    def shut_down(self) -> None:
        """Stop it in order."""
        self._server.stop()

    def kill(self) -> None:
        """Kill all its processes by SIGKILL."""
        self._signal(signal.SIGKILL)
        if self._server._server is not None:
            self._server._server.wait()

    def pause(self) -> None:
        """Pause all its processes by SIGSTOP: the kernel still accepts connections and their
        bytes."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Resume them by SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        signal_all(self._server, number)

    # -- refusing ----------------------------------------------------------------------------------

    def read_only(self) -> None:
        """Make it read-only, like a demoted server: new transactions may only read, also in
        existing sessions."""
        self._set_read_only("on")

    def writable(self) -> None:
        self._set_read_only("off")

    def _set_read_only(self, value: str) -> None:
        self._do(
            f"ALTER SYSTEM SET default_transaction_read_only = {value}", "SELECT pg_reload_conf()"
        )

    def read_only_from_now_on(self) -> None:
        """As `read_only`, but only for sessions that begin later."""
        self._do(f"ALTER DATABASE {self._database} SET default_transaction_read_only = on")

    def writable_from_now_on(self) -> None:
        self._do(f"ALTER DATABASE {self._database} RESET default_transaction_read_only")

    def end_sessions(self) -> None:
        """Terminate all other sessions."""
        self._do(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename <> '' AND pid <>"
            " pg_backend_pid()"
        )

    def sessions(self) -> int:
        """How many sessions have ever begun, by the server's statistics, which lag by up to a
        second."""
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
        """Use up the free space of its disk."""
        wanted = shutil.disk_usage(self.home).free - leave_kb * 1024
        with self._stuffing.open("ab") as stuffing:
            size = os.fstat(stuffing.fileno()).st_size
            while wanted > 0:
                try:
                    os.posix_fallocate(stuffing.fileno(), size, wanted)
                except OSError:  # the server was faster: it leaves less
                    wanted //= 2
                else:
                    return

    @contextmanager
    def full(self) -> Iterator[None]:
        """Keep its disk full to the last page, also when the server frees space."""
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
        """Free the disk."""
        self._stuffing.unlink(missing_ok=True)


def signal_all(server: EmbeddedPostgres, number: signal.Signals) -> None:
    """Send a signal to all processes of a server, if it runs."""
    if server.pid is None:
        return
    children = subprocess.run(
        ["pgrep", "-P", str(server.pid)], capture_output=True, text=True, check=False
    ).stdout
    for pid in (server.pid, *map(int, children.split())):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
