"""`ludoteca run`: the whole shop on one machine.

The supervisor owns the embedded PostgreSQL, prepares the database, and keeps the other processes
alive. Each is a child that dies with the supervisor, even by kill -9, and is restarted when it dies
alone.
"""

import fcntl
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from adapters.postgres.embedded import SETTINGS as POSTGRES_SETTINGS
from adapters.postgres.embedded import EmbeddedPostgres
from adapters.postgres.programs import EmbeddedPostgresError
from eventstore.log import LogUnavailable
from runtime.bootstrap import FirstStart, prepare
from runtime.database.instance import (
    noted_port,
    pooler_url,
    port_file,
    remember_servers,
    running_database_url,
)
from runtime.host.children import Child, numbered
from runtime.host.home import open_home
from runtime.host.listening import bind, check_port, is_free
from runtime.output.logs import begin_counting
from runtime.processes.certificates import check_certificate
from runtime.processes.siblings import all_serve, create_shared
from runtime.release.migrate import prepare_database
from runtime.settings import Settings
from runtime.settings.values import beside
from runtime.settings.variables import unknown_settings
from runtime.supervision.connection_count import connections_needed, warn_of_too_few
from runtime.supervision.health import API, health, is_ok
from runtime.supervision.metrics_ports import metrics_ports, metrics_urls
from runtime.supervision.stopping import Stopping, StopRequested
from runtime.wiring.log_of_record import check_log_of_record
from runtime.wiring.master_key import key_file

logger = logging.getLogger(__name__)

READY_SECONDS = 180.0
PROGRESS_SECONDS = 5.0
SERVERS_TIMEOUT_SECONDS = 30.0
"""How long the banner waits for servers of others. The shop opens without them, with reduced
function."""

FAILURES = 4
"""How often in a row a process may end before the shop is open."""

STOP_SECONDS = 15.0
"""When to kill processes that were asked to stop: each should end by itself before
(`runtime.processes.running.STOP_SECONDS`)."""

MIRROR = "mirror"
GAMES, SEARCH = "/api/v1/games?limit=1", "/api/v1/games/search?q=witcher"


class CannotStart(Exception):
    """The instance cannot be started. The message says why and what to do."""


def run(settings: Settings) -> int:
    """Start everything, print where to click, and run until asked to stop. Returns the exit code.
    Raises CannotStart."""
    stopping = Stopping()
    with suppress(StopRequested), ExitStack() as stack:
        with stopping.interruptible():
            open_home(settings.home)
            begin_counting(settings, "run")
            stack.enter_context(_only_instance(settings.home))
            _check_ports(settings)
            check_certificate(settings)
            settings = _with_ports(settings)
            ports = metrics_ports(settings, _measured(settings))
            remember_servers(settings, metrics_urls(settings, ports))
            postgres = stack.enter_context(_embedded(settings)) if settings.embedded else None
            url = postgres.url if postgres else running_database_url(settings)
            prepare_database(url, settings)
            check_log_of_record(settings, url)
            warn_of_too_few(url, settings)
            environment = _environment(settings, url)
        # what is appended, also to prepare a new shop, waits for the mirror
        mirror = [(MIRROR, 0)] if settings.mirrored else []
        children = list(_started(mirror, environment, ports))
        stopping.children = children
        try:
            with stopping.interruptible():
                first = _prepare(settings, url, children)
            memory = create_shared(settings.api_processes) if settings.api_processes > 1 else None
            children += _started(_processes(settings), environment, ports, memory)
            down = _await_open(settings, postgres, children, stopping, memory)
            if not stopping.asked:
                print(_welcome(settings, first, down), flush=True)
            while not stopping.wait(0.2):
                _revive(postgres, children, stopping)
        finally:
            _stop_all(children)
    return 0


def _prepare(settings: Settings, url: str, mirror: list[Child]) -> FirstStart:
    """As `prepare`. What is appended waits for the mirror, which takes seconds to start, and for
    KurrentDB."""
    start = time.monotonic()
    while True:
        try:
            return prepare(settings, url)
        except LogUnavailable as error:
            if not mirror or time.monotonic() - start > SERVERS_TIMEOUT_SECONDS:
                raise
            logger.warning("a new shop cannot be prepared yet: %s", error)
            time.sleep(1)
        for child in mirror:
            child.revive()


def _embedded(settings: Settings) -> EmbeddedPostgres:
    usual = int(POSTGRES_SETTINGS["max_connections"])
    most = max(usual, connections_needed(settings))
    return EmbeddedPostgres(settings.home, settings={"max_connections": str(most)})


@contextmanager
def _only_instance(home: Path) -> Iterator[None]:
    lock: IO[str] = (home / "run.lock").open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"an instance is running in {home} already; set LUDOTECA_HOME and LUDOTECA_PORT for"
                " a second one"
            ) from None
        yield


def _check_ports(settings: Settings) -> None:
    check_port(settings.host, settings.port, "LUDOTECA_PORT")
    ports = {
        "provider": settings.provider_port,
        "fiscal": settings.fiscal_port,
        "carrier": settings.carrier_port,
    }
    for command, port in ports.items():
        if port and command in _commands(settings):
            check_port(settings.provider_host, port, f"LUDOTECA_{command.upper()}_PORT")


def _with_ports(settings: Settings) -> Settings:
    """The settings with the ports of the simulators."""
    usual = {
        "provider": beside(settings.port, 1000),
        "fiscal": beside(settings.port, 2000),
        "carrier": beside(settings.port, 3000),
    }
    ports = {
        f"{server}_port": getattr(settings, f"{server}_port") or _kept_port(settings, server, port)
        for server, port in usual.items()
    }
    return settings.model_copy(update=ports)


def _kept_port(settings: Settings, server: str, usual: int) -> int:
    """The port of a simulator's pages. It is the same at every start, as open 3-D Secure links and
    receipts contain it."""
    wanted = noted_port(settings, server) or usual
    if not 0 < wanted < 65536 or not is_free(settings.provider_host, wanted):
        wanted = bind(settings.provider_host, 0)
    port_file(settings, server).write_text(str(wanted))
    return wanted


def _commands(settings: Settings) -> list[str]:
    commands = [API, "projector", "worker"]
    if settings.payment_provider == "simulated" and not settings.provider_url:
        commands.insert(0, "provider")
    if not settings.fiscal_url:
        commands.insert(0, "fiscal")
    if settings.carrier_is_simulated:
        commands.insert(0, "carrier")
    if settings.relayed:
        commands.append("relay")
    return commands


def _processes(settings: Settings) -> list[tuple[str, int]]:
    """The command of each process, and its number if there are several of its kind, or else 0;
    without the mirror."""
    several = {
        API: settings.api_processes,
        "projector": settings.projector_processes,
        "worker": settings.worker_processes,
    }
    counts = [(command, several.get(command, 1)) for command in _commands(settings)]
    return [
        (command, number)
        for command, count in counts
        for number in (range(1, count + 1) if count > 1 else (0,))
    ]


def _measured(settings: Settings) -> list[str]:
    """The names of the processes that show their metrics on ports of their own."""
    mirror = [MIRROR] if settings.mirrored else []
    return mirror + [numbered(*each) for each in _processes(settings) if each[0] != API]


def _started(
    processes: Iterable[tuple[str, int]],
    environment: Mapping[str, str],
    ports: Mapping[str, int],
    memory: int | None = None,
) -> Iterator[Child]:
    """Start the processes, each with the port of its metrics. API processes share the memory."""
    for command, number in processes:
        if command == API:
            yield Child(command, environment, number=number, memory=memory)
        else:
            port = {"LUDOTECA_METRICS_PORT": str(ports[numbered(command, number)])}
            yield Child(command, {**environment, **port}, number=number)


def _environment(settings: Settings, url: str) -> dict[str, str]:
    ignored = unknown_settings()
    return {
        **{name: value for name, value in os.environ.items() if name not in ignored},
        "LUDOTECA_HOME": str(settings.home),
        "LUDOTECA_DATABASE_URL": pooler_url(settings) or url,
        "LUDOTECA_PROVIDER_PORT": str(settings.provider_port),
        "LUDOTECA_FISCAL_PORT": str(settings.fiscal_port),
        "LUDOTECA_CARRIER_PORT": str(settings.carrier_port),
        **(
            {}
            if (file := key_file(settings)) is None
            else {"LUDOTECA_MASTER_KEY_FILE": str(file.path)}
        ),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
    }


def _await_open(
    settings: Settings,
    postgres: EmbeddedPostgres | None,
    children: list[Child],
    stopping: Stopping,
    memory: int | None = None,
) -> list[str]:
    """Wait until customers can be let in: all API processes are up, and so is everything that they
    read from.

    Returns the servers that are still down after some time. Read models that are catching up are
    waited for as long as they make progress.
    """

    def answers(path: str) -> bool:
        return is_ok(settings.local_url + path, settings.tls_cert)

    start = reported = time.monotonic()
    before = 0
    while (waited := time.monotonic() - start) < READY_SECONDS and not stopping.wait(0.1):
        down, position, upto = health(settings.local_url, settings.tls_cert)
        if upto:
            now = time.monotonic()
            start, before = (now, position) if position != before else (start, before)
            if now - reported > PROGRESS_SECONDS:
                logger.warning(
                    "the read models catch up: %.1f %% of the log is folded", 100 * position / upto
                )
                reported = now
        elif API not in down and answers(GAMES) and _all_serve(memory):
            if not down and answers(SEARCH):
                return []
            if down and waited > SERVERS_TIMEOUT_SECONDS:
                return down
        _revive(postgres, children, stopping)
        if failing := [child for child in children if child.failures >= FAILURES]:
            raise CannotStart(
                f"{failing[0].name} ended {FAILURES} times, with {failing[0].process.returncode}"
                " at last; the messages above say why"
            )
    if not stopping.asked:
        raise CannotStart(
            f"the shop was not open within {READY_SECONDS:.0f} s; the messages above say why"
        )
    return []


def _all_serve(memory: int | None) -> bool:
    return memory is None or all_serve(memory)


def _revive(postgres: EmbeddedPostgres | None, children: list[Child], stopping: Stopping) -> None:
    """Restart the processes that died. They wait for the database by themselves, so a restart of
    PostgreSQL does not require theirs."""
    if postgres and not postgres.is_reachable:
        logger.warning(
            "PostgreSQL %s; it starts again", "lost its socket" if postgres.pid else "ended"
        )
        try:
            with stopping.interruptible():
                postgres.start()
        except EmbeddedPostgresError as error:
            # perhaps its disk is full; it is tried again until it starts
            logger.warning("PostgreSQL does not start: %s", error)
            time.sleep(1)
    for child in children:
        child.revive()


def _stop_all(children: list[Child]) -> None:
    """Stop the mirror last: what the others append while they stop waits for it."""
    for last in (False, True):
        ending = [child for child in children if (child.name == MIRROR) == last]
        for child in ending:
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in ending:
            child.stop(deadline)


def _welcome(settings: Settings, first: FirstStart, down: list[str]) -> str:
    base = settings.api_url
    known = (
        "(LUDOTECA_ADMIN_PASSWORD)"
        if first.is_as_set
        else "(its password of before, or `ludoteca admin create`)"
    )
    lines = [
        "",
        "  Ludoteca is running.",
        "",
        f"    shop         {base}/",
        f"    sell         {base}/sell",
        f"    console      {base}/console",
        f"    a search     {base}{SEARCH}",
        f"    API docs     {base}/docs",
        f"    health       {base}/health/ready",
        *(
            [f"    parcels      {settings.carrier_address}"]
            if settings.carrier_is_simulated
            else []
        ),
        f"    admin login  {settings.admin_email}  {first.admin_password or known}",
        f"    data         {settings.home}",
        *(
            [f"    NOT ANSWERING: {', '.join(down)}. What needs it waits, or says so."]
            if down
            else []
        ),
        "",
        "  Stop it with Ctrl-C.",
        "",
    ]
    return "\n".join(lines)
