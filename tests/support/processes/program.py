"""Real processes of the program, to be stopped, paused and killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support import ROOT
from tests.support.processes.instance import START_SECONDS, eventually
from tests.support.servers.shared import free_port

__all__ = ["Process", "eventually", "started"]


class Process:
    """`ludoteca KIND` (api, projector, worker, relay, …) on a database, with its own settings."""

    def __init__(
        self, kind: str, home: Path, database: str, *, log: str = "", **settings: str
    ) -> None:
        """`home`: shared by the processes of a shop. An API process gets a free port, unless the
        settings name one. `log`: the name of the file of its output. PYTHONPATH among the settings
        is the folder of another release of the program."""
        home.mkdir(parents=True, exist_ok=True)
        self.kind = kind
        self.port = int(settings.get("LUDOTECA_PORT") or free_port())
        own = {
            "LUDOTECA_HOME": str(home),
            "LUDOTECA_DATABASE_URL": database,
            "LUDOTECA_PORT": str(self.port),
        }
        others = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        self.folder = Path(settings.get("PYTHONPATH", ROOT))
        self.environment = {
            **others,
            "LUDOTECA_RATE_LIMIT": "off",
            **own,
            **settings,
        }
        self._log = home / f"{log or f'{kind}-{self.port}'}.log"
        self.start()

    @property
    def url(self) -> str:
        """The URL of an API process."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        """All its output: log and prints."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self.popen.poll()

    def is_ready(self) -> bool:
        """Whether it is ready, if it is one of the API; it must not have ended."""
        assert self.code is None, self.said
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def await_ready(self) -> None:
        eventually(self.is_ready, patience=START_SECONDS)

    def start(self) -> None:
        """Start it, also again."""
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "runtime.cli", self.kind]
            self.popen = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )

    def pause(self) -> None:
        """Pause it by SIGSTOP; its connections stay open."""
        self.popen.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Resume it by SIGCONT."""
        self.popen.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to stop by SIGTERM."""
        self.popen.terminate()

    def kill(self) -> None:
        """Kill it by SIGKILL."""
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> int:
        """Stop it by SIGTERM, paused or not. Returns the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
        try:
            return self.popen.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@contextmanager
def started(*processes: Process) -> Iterator[tuple[Process, ...]]:
    """Stop the processes at the end, whatever their state."""
    try:
        yield processes
    finally:
        for process in processes:
            if process.popen.poll() is None:
                process.go_on()
                process.popen.terminate()
        for process in processes:
            try:
                process.popen.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
