"""`ludoteca run`, started in an environment that a test defines, and observed from the start."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.servers.shared import free_port

PATIENCE = 240.0
"""As long as a start may take on a busy machine; a command that has ended is not waited for."""
STOP_SECONDS = 25.0
"""Generous, as other tests may keep the machine busy."""


class Started:
    """The command as a process; `output` is all its output."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log
        self.seen: set[int] = set()

    @property
    def folder(self) -> Path:
        """The folder with its home and its output."""
        return self._log.parent

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def until(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """Wait until a condition holds while the command runs; remembers its child processes."""
        deadline = time.monotonic() + patience
        while True:
            self.seen.update(children_of(self.process.pid))
            if condition():
                return
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.02)

    def has_child(self, name: str) -> bool:
        """Whether it has a child with an argument that ends with this name."""
        return any(
            name in words for pid in children_of(self.process.pid) for words in [command_of(pid)]
        )

    def is_open(self) -> bool:
        return "Ludoteca is running." in self.output

    def is_ready(self) -> bool:
        """Whether it is ready, with everything that it needs."""
        try:
            return (
                httpx.get(f"{self.base}/health/ready", timeout=5, trust_env=False).status_code
                == 200
            )
        except httpx.HTTPError:
            return False

    def ends(self, patience: float = PATIENCE) -> int:
        """Wait for its exit code, and for the end of all its children."""
        self.seen.update(children_of(self.process.pid))
        code = self.process.wait(patience)
        deadline = time.monotonic() + STOP_SECONDS
        while left := [pid for pid in self.seen if is_alive(pid)]:
            assert time.monotonic() < deadline, [command_of(pid) for pid in left]
            time.sleep(0.05)
        return code

    def told(self, number: signal.Signals) -> tuple[int, float]:
        """Send a signal. Returns the exit code, and how many seconds the command took to end."""
        asked = time.monotonic()
        self.process.send_signal(number)
        return self.ends(), time.monotonic() - asked


@contextmanager
def started(
    folder: Path, *, cwd: Path | None = None, output: int | None = None, **environment: str | None
) -> Iterator[Started]:
    """Start the command in a new home; a variable with the value None is unset. It writes to a
    file, unless `output` is another descriptor. Killed at the end if it still runs."""
    port = free_port()
    surroundings = {
        name: value for name, value in os.environ.items() if not name.startswith("LUDOTECA_")
    }
    own = {
        "LUDOTECA_HOME": str(folder / "home"),
        "LUDOTECA_PORT": str(port),
        "LUDOTECA_SAMPLE": "off",
        "LUDOTECA_ALLOW_UNSAFE_DATABASE": "on",  # the tests' own server is one
        **environment,
    }
    surroundings = {
        name: value for name, value in {**surroundings, **own}.items() if value is not None
    }
    with (folder / "log.txt").open("wb") as log:
        ludoteca = "from runtime.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", ludoteca, "run"],
            env=surroundings,
            cwd=cwd,
            stdout=log if output is None else output,
            stderr=log if output is None else output,
        )
    try:
        yield Started(process, port, folder / "log.txt")
    finally:
        process.kill()
        process.wait()


def children_of(parent: int) -> list[int]:
    """The process ids of the children of a process."""
    try:
        tasks = list(Path(f"/proc/{parent}/task").iterdir())
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    except OSError:
        return []


def command_of(pid: int) -> list[str]:
    """The arguments of a process, with paths shortened to their last part."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
    return [Path(word).name for word in words if word]


def is_alive(pid: int) -> bool:
    """Whether the process runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
