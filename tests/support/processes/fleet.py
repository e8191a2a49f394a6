"""Several processes of each kind of one shop, as on several machines: each may be stopped, paused
and killed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support import ROOT
from tests.support.processes.instance import ADMIN, PASSWORD, Instance
from tests.support.processes.program import Process
from tests.support.servers.shared import free_port

RETRIES = ",".join(["0.2", "0.5", "1", "2", *["4"] * 12])
"""Longer than any process is away: no payment may fail."""


class Fleet:
    """The processes of a shop by their names: `api.1`, `worker.2`."""

    def __init__(self, home: Path, database: str, **settings: str) -> None:
        """A shop without processes. `settings` are those of all of them."""
        self.home = home
        self.database = database
        self.processes: dict[str, Process] = {}
        self._ports = {"api.1": free_port()}  # to which the provider sends its notices
        notices = f"http://127.0.0.1:{self._ports['api.1']}/api/v1/payments/webhook"
        self._settings = {
            "LUDOTECA_PROVIDER_PORT": str(free_port()),
            "LUDOTECA_FISCAL_PORT": str(free_port()),
            "LUDOTECA_PAYMENT_WEBHOOK_URL": notices,
            "LUDOTECA_PAYMENT_RETRY_SECONDS": RETRIES,
            "LUDOTECA_NOTICE_RETRY_SECONDS": RETRIES,
            "LUDOTECA_WEBHOOK_RETRY_SECONDS": RETRIES,
            "LUDOTECA_WEBHOOK_PRIVATE": "allow",
            **settings,
        }

    def start(self, name: str, code: Path = ROOT) -> Process:
        """Start another process; `name` is its kind and a number. It listens on the port that one
        of this name had before."""
        port = self._ports.setdefault(name, free_port())
        process = Process(
            name.partition(".")[0],
            self.home,
            self.database,
            log=name,
            PYTHONPATH=str(code),
            LUDOTECA_PORT=str(port),
            **self._settings,
        )
        self.processes[name] = process
        return process

    def start_all(self, counts: Mapping[str, int], code: Path = ROOT) -> None:
        """Start so many of each kind, and wait until all answer or lead; make the first ADMIN."""
        names = [f"{kind}.{n}" for kind, count in counts.items() for n in range(1, count + 1)]
        for name in names:
            self.start(name, code)
        for name in names:
            self.await_ready(name)
        self.shop.cli(
            "admin", "create", "--email", ADMIN, "--name", "Admin", "--password", PASSWORD
        )

    def await_ready(self, name: str) -> None:
        """Wait until a process is ready, if it is one of the API."""
        if name.startswith("api"):
            self.processes[name].await_ready()

    @property
    def urls(self) -> list[str]:
        """Where the API processes listen."""
        return [each.url for name, each in self.processes.items() if name.startswith("api")]

    @property
    def shop(self) -> Instance:
        """The shop, used over HTTP at its first API process, and by the command line."""
        process = self.processes["api.1"]
        return Instance(self.home, process.environment, process.port, code=process.folder)

    def stop(self, name: str) -> int:
        """Stop a process by SIGTERM, and forget it. Returns its exit code."""
        return self.processes.pop(name).stop()


@contextmanager
def fleet(home: Path, database: str, **settings: str) -> Iterator[Fleet]:
    """A shop whose processes are killed at the end, if they still run."""
    made = Fleet(home, database, **settings)
    try:
        yield made
    finally:
        for process in made.processes.values():
            process.kill()
