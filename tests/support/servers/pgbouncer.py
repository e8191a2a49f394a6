"""A pgbouncer in transaction mode in front of a database, for one test."""

import os
import pwd
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.processes.instance import eventually
from tests.support.servers.shared import free_port, quick_folder, require_pgbouncer

DOCS = Path(__file__).parents[3] / "docs" / "replicas.md"

SESSION = DOCS.read_text(encoding="utf-8").partition("connect_query='")[2].partition("'")[0]
"""What the documentation has sessions begin with."""


class PgBouncer:
    """`with PgBouncer(database) as bouncer: use(bouncer.url)`. Skips the test, or fails it where
    services are required, unless pgbouncer is installed."""

    def __init__(self, database: str, *, connect_query: str = SESSION, **settings: str) -> None:
        """`settings` are those of the section [pgbouncer]."""
        self._program = require_pgbouncer()
        self._home = quick_folder("ludoteca-pgbouncer-")
        self._server = conninfo_to_dict(database)
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(connect_query, **settings)

    @property
    def url(self) -> str:
        """The database's URL through it."""
        server = self._server
        return f"postgresql://{server['user']}@127.0.0.1:{self._port}/{server['dbname']}"

    @property
    def prepares(self) -> bool:
        """Whether it can keep prepared statements, as 1.21 and later can."""
        said = subprocess.run(
            [self._program, "--version"], check=True, capture_output=True, text=True
        ).stdout
        return tuple(map(int, said.split()[1].split(".")[:2])) >= (1, 21)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def configure(self, connect_query: str = SESSION, **settings: str) -> None:
        """Write its configuration, for the next start."""
        database = {name: str(self._server[name]) for name in ("host", "port", "user", "dbname")}
        if connect_query:
            database["connect_query"] = connect_query
        pairs = " ".join(
            "{}='{}'".format(name, value.replace("'", "''")) for name, value in database.items()
        )
        usual = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self._port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "server_login_retry": "1",
            "max_client_conn": "500",
            "default_pool_size": "10",
        }
        if self.prepares:
            usual["max_prepared_statements"] = "100"
        lines = [f"{name} = {value}" for name, value in {**usual, **settings}.items()]
        text = f"[databases]\n{database['dbname']} = {pairs}\n[pgbouncer]\n" + "\n".join(lines)
        (self._home / "pgbouncer.ini").write_text(text + "\n")

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        command: list[str | Path] = [self._program, "-q", self._home / "pgbouncer.ini"]
        if os.geteuid() == 0:  # as whom it refuses to run
            owner = Path(str(self._server["host"])).stat().st_uid
            command[1:1] = ["-u", pwd.getpwuid(owner).pw_name]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        eventually(self._takes_connections)

    def _takes_connections(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._home / "log").read_text()
        with suppress(psycopg.OperationalError):
            psycopg.connect(make_conninfo(self.url, connect_timeout=5)).close()
            return True
        return False

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Pause it by SIGSTOP."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Resume it by SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._home)
