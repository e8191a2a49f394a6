"""Three PostgreSQL servers that Patroni makes one cluster, by the configuration in deploy/patroni,
and the etcd in which it keeps who leads."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import psycopg

from adapters.postgres import unprivileged
from adapters.postgres.programs import command_line
from deploy.servers.common import http
from deploy.servers.patroni import patroni_environment, postgres_binaries, system_program
from tests.support.servers.shared import free_port, quick_folder, require_patroni

T = TypeVar("T")

CONFIGURATION = Path(__file__).parents[3] / "deploy" / "patroni"
NODES = ("db1", "db2", "db3")
PASSWORD = "a-secret"
DATABASE = "ludoteca"
PATIENCE = 120.0
"""For what the cluster does by itself, on a busy machine."""


class Node:
    """A server and its Patroni, as if on a machine of their own."""

    def __init__(self, name: str, folder: Path, etcd: str, user: pwd.struct_passwd | None) -> None:
        self.name = name
        self.home = folder / name
        self.port, self.rest_port = free_port(), free_port()
        self._user = user
        self._etcd = etcd
        self._patroni: subprocess.Popen[bytes] | None = None
        make_folder(self.home, user)

    @property
    def url(self) -> str:
        """The URL of this server alone."""
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/{DATABASE}"

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask its Patroni. Raises OSError when it does not answer, or answers no."""
        credentials = f"patroni:{PASSWORD}@"
        url = f"http://{credentials}127.0.0.1:{self.rest_port}/{path}"
        return http(method, url, body, timeout=30 if body else 5)

    def start(self) -> None:
        """Start its Patroni, which starts the server."""
        environment = patroni_environment()
        self._patroni = launch(
            [str(environment / "bin" / "patroni"), str(CONFIGURATION / "node.yml")],
            self.home / "patroni.log",
            self._user,
            {
                "PATRONI_NAME": self.name,
                "PATRONI_RESTAPI_LISTEN": f"127.0.0.1:{self.rest_port}",
                "PATRONI_RESTAPI_CONNECT_ADDRESS": f"127.0.0.1:{self.rest_port}",
                "PATRONI_RESTAPI_USERNAME": "patroni",
                "PATRONI_RESTAPI_PASSWORD": PASSWORD,
                "PATRONI_POSTGRESQL_LISTEN": f"127.0.0.1:{self.port}",
                "PATRONI_POSTGRESQL_CONNECT_ADDRESS": f"127.0.0.1:{self.port}",
                "PATRONI_POSTGRESQL_DATA_DIR": str(self.home / "data"),
                "PATRONI_POSTGRESQL_BIN_DIR": str(postgres_binaries(environment)),
                "PATRONI_POSTGRESQL_PGPASS": str(self.home / "pgpass"),
                "PATRONI_ETCD3_HOSTS": f'"{self._etcd}"',
                "PATRONI_SUPERUSER_PASSWORD": PASSWORD,
                "PATRONI_REPLICATION_PASSWORD": PASSWORD,
                "PATRONI_REWIND_PASSWORD": PASSWORD,
            },
        )

    def kill(self) -> None:
        """Kill server and Patroni by SIGKILL."""
        self._signal(signal.SIGKILL)
        if self._patroni is not None:
            self._patroni.wait()

    def stop(self) -> None:
        """Stop both, in whatever state they are, at once."""
        self.go_on()
        self.kill_patroni()
        if server := self._server():
            _send(server, signal.SIGQUIT)  # it removes the memory that its processes share
            until(lambda: self._server() is None)

    def kill_patroni(self) -> None:
        """Kill Patroni alone by SIGKILL: the server goes on, and does not hear who leads."""
        if self._patroni is not None:
            self._patroni.kill()
            self._patroni.wait()

    def pause(self) -> None:
        """Pause server and Patroni by SIGSTOP: the kernel still accepts connections."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Resume them by SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        server = self._server()
        # the parents first, so that they start nothing meanwhile
        parents = [each for each in (server, self._patroni and self._patroni.pid) if each]
        for pid in parents:
            _send(pid, number)
        for pid in children_of(server) if server else []:
            _send(pid, number)

    def _server(self) -> int | None:
        """The server's process id while it runs; what it leaves when killed is another's in
        time."""
        data = self.home / "data"
        try:
            pid = int((data / "postmaster.pid").read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        return pid if str(data) in command_line(pid) else None


class Cluster:
    """`with Cluster() as cluster`: three nodes, all in sync. Skips the test, or fails it where
    services are required, unless Patroni and etcd are installed. Only the main thread may use
    it."""

    def __init__(self) -> None:
        require_patroni()
        self.folder = quick_folder("ludoteca-cluster-")
        self._user = unprivileged.pick_user("postgres", "nobody") if os.geteuid() == 0 else None
        port, peers = free_port(), free_port()
        client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peers}"
        self._etcd_options = {
            "data-dir": str(self.folder / "etcd" / "data"),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }
        self._etcd: subprocess.Popen[bytes] | None = None
        self.nodes = [Node(name, self.folder, f"127.0.0.1:{port}", self._user) for name in NODES]

    def __enter__(self) -> Self:
        make_folder(self.folder / "etcd", self._user)
        options = [f"--{name}={value}" for name, value in self._etcd_options.items()]
        log = self.folder / "etcd" / "log.txt"
        try:
            self._etcd = launch([system_program("etcd"), *options], log, self._user, {})
            for node in self.nodes:
                node.start()
            self.await_health()
            with psycopg.connect(self.primary().url, dbname="postgres", autocommit=True) as conn:
                conn.execute(f"CREATE DATABASE {DATABASE}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.stop()
        if self._etcd is not None:
            self._etcd.kill()
            self._etcd.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        """The URL that names all nodes."""
        return self.url_of(*self.nodes)

    def url_of(self, *nodes: Node) -> str:
        """The URL that names these nodes; psycopg's own connections by it are to the primary."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        return (
            f"postgresql://postgres:{PASSWORD}@{hosts}/{DATABASE}?target_session_attrs=read-write"
        )

    @contextmanager
    def haproxy(self) -> Iterator[str]:
        """The URL of an HAProxy that leads to the primary."""
        port = free_port()
        text = (CONFIGURATION / "haproxy.cfg").read_text().replace(":5000", f":{port}")
        for node in self.nodes:
            text = text.replace(
                f"{node.name}.internal:5432 check port 8008",
                f"127.0.0.1:{node.port} check port {node.rest_port}",
            )
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(text)
        program, log = system_program("haproxy"), self.folder / "haproxy.txt"
        running = launch([program, "-db", "-f", str(configuration)], log, None, {})
        try:
            yield f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/{DATABASE}"
        finally:
            running.kill()
            running.wait()

    # -- who leads ---------------------------------------------------------------------------------

    def primary(self) -> Node:
        """The node whose Patroni says that it is the primary; waits for one."""
        return until(self._primary)

    def _primary(self) -> Node | None:
        for node in self.nodes:
            with suppress(OSError):
                if node.ask("GET", "patroni").get("role") == "primary":
                    return node
        return None

    def await_health(self) -> None:
        """Wait until there is a primary, and everybody else follows it, in sync."""
        until(self._is_healthy)

    def _is_healthy(self) -> bool:
        try:
            members = self.nodes[0].ask("GET", "cluster")["members"]
        except OSError:
            return False
        states = sorted((each["role"], each["state"]) for each in members)
        standby = ("quorum_standby", "streaming")
        return states == [("leader", "running"), standby, standby]

    def await_another(self, than: Node) -> Node:
        """Wait until another node than this one commits."""
        others = [node for node in self.nodes if node is not than]

        def committing() -> Node | None:
            with suppress(psycopg.Error):
                with psycopg.connect(
                    self.url_of(*others), connect_timeout=2, autocommit=True
                ) as conn:
                    conn.execute("SELECT pg_logical_emit_message(true, 'test', '')")
                    port = conn.info.port
                return next(node for node in others if node.port == port)
            return None

        return until(committing, pause=0.05)

    def switch_over(self) -> None:
        """Have the primary hand over to a standby, in order; returns once it has."""
        before = self.primary()
        with suppress(ValueError):  # the answer is no JSON
            before.ask("POST", "switchover", {"leader": before.name})
        self.await_another(before)


# -- processes -------------------------------------------------------------------------------------


def make_folder(folder: Path, user: pwd.struct_passwd | None) -> None:
    """A folder of this user (None: ours)."""
    folder.mkdir()
    if user is not None:
        shutil.chown(folder, user.pw_uid, user.pw_gid)


def launch(
    command: list[str], log: Path, user: pwd.struct_passwd | None, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process as this user, without libpq's variables, bound to our life."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **environment},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=unprivileged.child_setup(  # noqa: PLW1509 - safe after a fork
                user=user, reads_everything=False, dies_by=signal.SIGTERM
            ),
        )


def children_of(pid: int) -> list[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return [int(each) for each in found.split()]


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def until(look: Callable[[], T | None], pause: float = 0.2) -> T:
    """Poll until there is an answer: other processes do the work."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(pause)
    return found
