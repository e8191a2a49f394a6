"""The servers under comparison, as processes: ours as the program runs them, the twin, the
floor."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

from benchmarks.server import free_port
from runtime.processes.siblings import create_shared

START_SECONDS = 60.0
STOP_SECONDS = 20.0
API = "API"
OURS = {
    "provider": "provider",
    "fiscal": "fiscal",
    "projector": "projector",
    "worker": "worker",
    API: "api",
}
"""The names in the report and on the command line."""

SIMULATORS = ("provider", "fiscal")


class Serving(msgspec.Struct, frozen=True):
    """Running processes by name, and their URL."""

    base: str
    pids: Mapping[str, Sequence[int]]


@contextmanager
def ours(home: Path, settings: Mapping[str, str], api_processes: int = 1) -> Iterator[Serving]:
    """All processes of the shop, as `ludoteca run` starts them."""
    base = f"http://127.0.0.1:{settings['LUDOTECA_PORT']}"
    memory = create_shared(api_processes)
    with _running(home, settings) as start:
        for name in SIMULATORS:
            start(name, "-m", "runtime.cli", OURS[name])
        # A worker that does not find them tries again after half a minute, and then after five.
        _await(lambda: start.all_listen(SIMULATORS), SIMULATORS, start, home)
        for name in OURS.keys() - {*SIMULATORS, API}:
            start(name, "-m", "runtime.cli", OURS[name])
        for number in range(1, api_processes + 1):
            shared = api_processes > 1
            options = (f"--number={number}", f"--memory={memory}") if shared else ()
            start(API, "-m", "runtime.cli", OURS[API], *options, pass_fds=(memory,))
        os.close(memory)
        _await_api(f"{base}/health/ready", start, home)
        yield Serving(base, start.pids)


@contextmanager
def module(name: str, *arguments: object, home: Path, processes: int = 1) -> Iterator[Serving]:
    """A module that serves on a port, which is its last argument; in several processes, if so."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    with _running(home, os.environ) as start:
        for _ in range(processes):
            start(API, "-m", name, *map(str, arguments), str(port))
        _await_api(base, start, home)
        yield Serving(base, start.pids)


class _Starting:
    """Starts processes; several may have the same name, and a log together."""

    def __init__(self, home: Path, settings: Mapping[str, str]) -> None:
        self._home = home
        self._settings = settings
        self.started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __call__(self, name: str, *arguments: str, pass_fds: Sequence[int] = ()) -> None:
        with (self._home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                env=self._settings,
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
            )
        self.started.append((name, process))

    @property
    def pids(self) -> Mapping[str, Sequence[int]]:
        """The process ids of each name."""
        found: dict[str, list[int]] = {}
        for name, process in self.started:
            found.setdefault(name, []).append(process.pid)
        return found

    def all_listen(self, names: Collection[str]) -> bool:
        """Whether each process of these names has a socket of its own on which it listens."""
        return all(_listens(process) for name, process in self.started if name in names)

    def has_ended(self, names: Collection[str]) -> bool:
        """Whether a process of these names has."""
        return any(process.poll() is not None for name, process in self.started if name in names)


@contextmanager
def _running(home: Path, settings: Mapping[str, str]) -> Iterator[_Starting]:
    starting = _Starting(home, settings)
    try:
        yield starting
    finally:
        for _, process in starting.started:
            process.terminate()
        for _, process in starting.started:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_api(url: str, starting: _Starting, home: Path) -> None:
    """Wait until it answers, even by 404, and each of its processes listens."""
    _await(lambda: _answers(url) and starting.all_listen([API]), [API], starting, home)


def _await(
    is_up: Callable[[], bool], names: Collection[str], starting: _Starting, home: Path
) -> None:
    """Wait until processes of these names are up. Raises RuntimeError if one ends, or none is."""
    deadline = time.monotonic() + START_SECONDS
    while starting.has_ended(names) or not is_up():
        if starting.has_ended(names) or time.monotonic() > deadline:
            logs = "".join((home / f"{name}.log").read_text() for name in names)
            raise RuntimeError(f"not up: {', '.join(names)}: {logs}")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False


def _listens(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process has a listening TCP socket (state 0A)."""
    if process.poll() is not None:
        return False
    pid = process.pid
    listening = {
        fields[9]
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        if (fields := line.split())[3] == "0A"
    }
    own = [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.is_symlink()]
    return any(each.removeprefix("socket:[").removesuffix("]") in listening for each in own)
