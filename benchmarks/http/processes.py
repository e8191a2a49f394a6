"""The servers under comparison, as processes: ours as the program runs them, the twin, the
floor."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

from deploy.servers.common import free_port

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


class Serving(msgspec.Struct, frozen=True):
    """Running processes by name, and their URL."""

    base: str
    pids: Mapping[str, int]


@contextmanager
def ours(home: Path, settings: Mapping[str, str]) -> Iterator[Serving]:
    """All processes of the shop, as `ludoteca run` starts them."""
    commands = {name: ["-m", "runtime.cli", command] for name, command in OURS.items()}
    base = f"http://127.0.0.1:{settings['LUDOTECA_PORT']}"
    with _running(home, commands, settings) as started:
        _await_answer(f"{base}/health/ready", started[API], home / f"{API}.log")
        yield Serving(base, {name: process.pid for name, process in started.items()})


@contextmanager
def module(name: str, *arguments: object, home: Path) -> Iterator[Serving]:
    """A module that serves on a port, which is its last argument."""
    port = free_port(18500)
    commands = {name: ["-m", name, *map(str, arguments), str(port)]}
    base = f"http://127.0.0.1:{port}"
    with _running(home, commands, os.environ) as started:
        _await_answer(base, started[name], home / f"{name}.log")
        yield Serving(base, {API: started[name].pid})


@contextmanager
def _running(
    home: Path, commands: Mapping[str, Sequence[str]], settings: Mapping[str, str]
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            with (home / f"{name}.log").open("ab") as log:
                started[name] = subprocess.Popen(
                    [sys.executable, *command], env=settings, stdout=log, stderr=log
                )
        yield started
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server answers, even by 404."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.get(url, timeout=5, trust_env=False).status_code < 500:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"nothing answers at {url}: {log.read_text()}")
        time.sleep(0.1)
