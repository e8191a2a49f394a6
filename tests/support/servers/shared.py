"""The servers that tests use: one PostgreSQL for the whole run; RabbitMQ, Kafka, Elasticsearch and
stripe-mock where they are up."""

import contextlib
import functools
import itertools
import os
import random
import re
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from adapters.postgres.embedded import DATABASE, EmbeddedPostgres
from deploy import services as deploy
from deploy.servers.elasticsearch import await_elasticsearch, launch_elasticsearch

MISSING = "missing service: "
TEMPLATE = "ludoteca_template"
_TEMPLATE_LOCK = 4910

MEMORY = Path("/dev/shm")  # /dev/shm in a container may be small
ROOM = 4 << 30
"""Bytes. More than the databases of a run and their write-ahead log need."""


class TestPostgres:
    """The run's PostgreSQL. It may lose everything in a power cut, which makes creating and
    dropping databases fast."""

    __test__ = False

    def __init__(self) -> None:
        self._home = quick_folder("ludoteca-tests-")
        quick = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "128MB"}
        self._server = EmbeddedPostgres(self._home, settings=quick)
        self._server.start()
        self.url = self._server.url

    def stop(self) -> None:
        self._server.stop()
        shutil.rmtree(self._home)


def quick_folder(prefix: str) -> Path:
    """A new folder that every user may enter, in memory if there is room: a database is copied file
    by file, hundreds of small ones, which takes ten times as long on a busy disk."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if in_memory else None))
    folder.chmod(0o755)
    return folder


def at_database(server: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlsplit(server)._replace(path=f"/{name}").geturl()


def create_database(server: str, *, template: str) -> str:
    """Create a database with a new name; returns its URL."""
    name = f"test_{uuid4().hex}"
    _execute(server, "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, template)
    return at_database(server, name)


def drop_database(url: str) -> None:
    """Drop it, with its connections."""
    _execute(url, "DROP DATABASE IF EXISTS {} WITH (FORCE)", urlsplit(url).path.removeprefix("/"))


def migrated_template(server: str) -> str:
    """The name of a database with the program's schema and no rows, created by the first caller."""
    from runtime.release.migrate import migrate

    with psycopg.connect(at_database(server, DATABASE), autocommit=True) as lock:
        lock.execute("SELECT pg_advisory_lock(%s)", [_TEMPLATE_LOCK])
        if not lock.execute("SELECT 1 FROM pg_database WHERE datname = %s", [TEMPLATE]).fetchone():
            fresh = create_database(server, template="template1")
            migrate(fresh)
            _execute(
                server,
                "ALTER DATABASE {} RENAME TO {}",
                urlsplit(fresh).path.removeprefix("/"),
                TEMPLATE,
            )
    return TEMPLATE


def _execute(server: str, statement: str, *names: str) -> None:
    with psycopg.connect(at_database(server, "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def require_rabbitmq() -> None:
    """Skip the test, or fail it where services are required, unless RabbitMQ is up."""
    _require("RabbitMQ", deploy.check_rabbitmq)


def name_of_virtual_host() -> str:
    """A name for this process' virtual host. Drops those of this machine's processes that were
    killed: their queues would fill the server."""
    prefix = f"ludoteca-test-{socket.gethostname()}-"
    found = deploy.http("GET", f"{deploy.rabbitmq_management_url()}/api/vhosts")
    assert isinstance(found, list)
    for name in (each["name"] for each in found):
        ours = re.fullmatch(rf"{re.escape(prefix)}(\d+)-\w+", name)
        if ours and not _is_running(int(ours[1])):
            drop_virtual_host(name)
    return f"{prefix}{os.getpid()}-{uuid4().hex}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def empty_virtual_host(name: str) -> str:
    """Create a virtual host, replacing one of that name; returns its URL."""
    drop_virtual_host(name)
    deploy.http("PUT", f"{deploy.rabbitmq_management_url()}/api/vhosts/{name}")
    return urlsplit(deploy.rabbitmq_url())._replace(path=f"/{quote(name, safe='')}").geturl()


def drop_virtual_host(name: str) -> None:
    """Drop a virtual host, its queues and its connections, if it is there."""
    try:
        deploy.http("DELETE", f"{deploy.rabbitmq_management_url()}/api/vhosts/{name}")
    except OSError as error:
        if getattr(error, "code", None) != 404:
            raise


def require_kafka() -> str:
    """The server's URL. Skip the test, or fail it where services are required, unless it is up."""
    _require("Kafka", deploy.check_kafka)
    return deploy.kafka_url()


def require_elasticsearch() -> str:
    """The server's URL. Skip the test, or fail it where services are required, unless it is up."""
    _require("Elasticsearch", deploy.check_elasticsearch)
    return deploy.elasticsearch_url()


class OwnElasticsearch:
    """A server that a test may stop, still starting up, which takes a while. Skips the test, or
    fails it where services are required, unless Elasticsearch is installed."""

    def __init__(self) -> None:
        require_elasticsearch()
        self._home = Path(tempfile.mkdtemp(prefix="ludoteca-elasticsearch-"))
        self._home.chmod(0o755)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        quick_to_start = "-Xms256m -Xmx256m -XX:TieredStopAtLevel=1"
        _require("Elasticsearch", lambda: self._launch(port, quick_to_start))

    def _launch(self, port: int, java_options: str) -> None:
        self._server = launch_elasticsearch(self._home / "state", port, java_options)

    def wait(self) -> None:
        """Wait until it is ready."""
        await_elasticsearch(self._server, self.url, self._home / "state")

    def hang(self) -> None:
        """Pause it: it answers nothing until it is resumed."""
        os.killpg(self._server.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self._server.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Stop it if it runs."""
        if self._server.poll() is None:
            self.go_on()
            os.killpg(self._server.pid, signal.SIGTERM)
            self._server.wait(60)

    def remove(self) -> None:
        """Stop it, and delete its data."""
        self.stop()
        shutil.rmtree(self._home)


PORTS = range(20_000, 32_000)
"""Below the ephemeral ports of the system: so no outgoing connection takes a port between its
choice and its use."""


@functools.cache
def _ports() -> Iterator[int]:
    """This worker's share of them, from a random start, endlessly."""
    worker, workers = (os.environ.get(f"PYTEST_XDIST_WORKER{name}", "") for name in ("", "_COUNT"))
    share = PORTS[int(worker.removeprefix("gw") or 0) :: int(workers or 1)]
    start = random.SystemRandom().randrange(len(share))
    return itertools.cycle([*share[start:], *share[:start]])


def free_port() -> int:
    """A port of this machine that is not in use, and is not returned again soon."""
    for port in _ports():
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("unreachable")


def drop_indices(url: str, prefix: str) -> None:
    """Drop every index whose name begins with this prefix."""
    found = deploy.http("GET", f"{url}/{prefix}*/_alias")
    assert isinstance(found, dict)
    for index in found:
        deploy.http("DELETE", f"{url}/{index}")


def require_stripe_mock() -> str:
    """The server's URL. Skip the test, or fail it where services are required, unless it is up."""
    _require("stripe-mock", deploy.check_stripe_mock)
    return deploy.stripe_mock_url()


def require_faketime() -> str:
    """The library to preload to shift a program's clock. Skip the test, or fail it where services
    are required, unless it is installed."""
    _require("faketime", deploy.check_faketime)
    return deploy.faketime_library()


def require_patroni() -> None:
    """Skip the test, or fail it where services are required, unless Patroni, etcd and
    HAProxy are installed."""
    _require("Patroni", deploy.check_patroni)


def require_pgbouncer() -> str:
    """The program. Skip the test, or fail it where services are required, unless it is
    installed."""
    _require("pgbouncer", deploy.check_pgbouncer)
    return deploy.pgbouncer_program()


def require_prometheus() -> Path:
    """The folder with prometheus and promtool. Skip the test, or fail it where services are
    required, unless they are installed."""
    _require("Prometheus", deploy.check_prometheus)
    return Path(deploy.prometheus_folder())


def require_alertmanager() -> Path:
    """The program, beside which amtool is. Skip the test, or fail it where services are required,
    unless they are installed."""
    _require("Alertmanager", deploy.check_alertmanager)
    return Path(deploy.alertmanager_program())


def require_chromium() -> str:
    """The program. Skip the test, or fail it where services are required, unless it is
    installed."""
    _require("Chromium", deploy.check_chromium)
    return deploy.chromium_program()


def _require(service: str, check: Callable[[], None]) -> None:
    try:
        return check()
    except deploy.Missing as missing:
        said = f"{MISSING}{service}: {missing}"
    if os.environ.get("LUDOTECA_REQUIRE_SERVICES") == "1":
        pytest.fail(said, pytrace=False)
    pytest.skip(said)
