"""What finding and starting any of the servers takes. Standard library only."""

import base64
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

START_TIMEOUT_SECONDS = 120.0


class Missing(Exception):
    """A service that is not up, and why or what would help."""


# -- the cache directory ---------------------------------------------------------------------------


def cache_directory() -> Path:
    """Where downloads, data and the choice of ports are kept. Root's is one that an ordinary user
    may read."""
    if chosen := os.environ.get("LUDOTECA_TEST_CACHE"):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/var/cache/ludoteca")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ludoteca"


def remembered() -> dict[str, str]:
    """What `up` chose and started."""
    try:
        found = json.loads((cache_directory() / "services.json").read_text())
    except (OSError, ValueError):
        return {}
    return (
        {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}
    )


def remember(**choices: str) -> None:
    """Keep a choice for the tests, and for `down`."""
    path = cache_directory() / "services.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(remembered() | choices, indent=2) + "\n")
    fresh.replace(path)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Wait until no other of these programs runs; makes the cache directory."""
    cache_directory().mkdir(parents=True, exist_ok=True, mode=0o755)
    with (cache_directory() / "services.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# -- servers and commands --------------------------------------------------------------------------


def http(method: str, url: str, body: object = None, *, timeout: float = 10) -> object:
    """One JSON request; credentials may stand in the URL. Raises OSError (HTTPError among them)."""
    parts = urlsplit(url)
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 http or https by the callers
        address, data, {"Content-Type": "application/json"}, method=method
    )
    if parts.username:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        request.add_header("Authorization", "Basic " + base64.b64encode(credentials).decode())
    # No proxy: these servers are this machine's own, or named by whoever runs the tests.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=timeout) as answer:
        text = answer.read()
    return json.loads(text) if text.strip() else None


def wait(check: Callable[[], None], log: str) -> None:
    """Return as soon as the check passes. Raises Missing when it does not in time; `log` is where
    people look then."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            return check()
        except Missing as missing:
            if time.monotonic() > deadline:
                raise Missing(f"it was started but {missing}; see {log}") from missing
        time.sleep(0.5)


def run(command: list[str], *, env: dict[str, str] | None = None, seconds: float = 900) -> None:
    """Run a command to its end. Raises Missing with the last line that it said when it fails, or
    when it takes longer than `seconds`."""
    # A daemon keeps what it inherits: give it files, not pipes that would never close.
    with (cache_directory() / "commands.log").open("a+b") as log:
        start = log.seek(0, os.SEEK_END)
        try:
            done = subprocess.run(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as late:
            raise Missing(f"`{' '.join(command)}` took longer than {seconds:g} seconds") from late
        if done.returncode:
            log.seek(start)
            said = log.read().decode(errors="replace").strip().splitlines()
            raise Missing(
                f"`{' '.join(command)}` failed: {said[-1] if said else f'exit {done.returncode}'}"
            )


def apt_install(*packages: str) -> None:
    """Install packages of the system, as root. Raises Missing."""
    if not shutil.which("apt-get"):
        raise Missing(f"install {' '.join(packages)} with the system's package manager")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], env=quiet)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], env=quiet)


def install_package(check: Callable[[], None], variable: str, *packages: str) -> None:
    """Install packages of the system, as root, unless `check` finds what they have. What the
    environment's variable names is not replaced. Raises Missing."""
    try:
        check()
    except Missing as missing:
        if os.environ.get(variable):
            raise
        if os.geteuid() != 0:
            raise Missing(
                f"{missing}; that takes root: run `sudo python3 deploy/services.py up`"
            ) from missing
        apt_install(*packages)
        check()


def port_is_open(port: int) -> bool:
    """Whether something listens on this machine's port."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port(first: int) -> int:
    """The first port from here on that nothing listens on."""
    return next(port for port in range(first, first + 90) if not port_is_open(port))


def stop_process(name: str, program: bytes) -> None:
    """Stop the server whose process was remembered as `NAME_pid`, and wait. Raises Missing when it
    is not ours."""
    pid = int(remembered().get(f"{name}_pid", "0"))
    if not pid or program not in _command_line(pid):
        raise Missing("it was not started by this program: left alone")
    os.killpg(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while _command_line(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    remember(**{f"{name}_pid": "0"})


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
