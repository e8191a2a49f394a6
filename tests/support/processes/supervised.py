"""`ludoteca run` as a person starts it: one command with a home and a port, which starts everything
else itself."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT
from tests.support.processes.instance import START_SECONDS, Instance, eventually
from tests.support.servers.shared import free_port

LUDOTECA = Path(sys.executable).with_name("ludoteca")
ORDINARY = "nobody"


@dataclass
class Run:
    """A home in which `ludoteca run` is started, perhaps several times; `user` None is the user who
    runs the tests."""

    home: Path
    port: int
    environment: dict[str, str]
    user: str | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def shop(self) -> Instance:
        """The shop, used over HTTP and the command line."""
        return Instance(self.home, self.environment, self.port)

    @property
    def output(self) -> str:
        """All output of the last start."""
        return self._log.read_text(encoding="utf-8")

    @property
    def _log(self) -> Path:
        return self.home.with_suffix(".txt")

    def start(self) -> None:
        """Start, and return when it reports that it is running."""
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command(self.user), env=self.environment, cwd=ROOT, stdout=log, stderr=log
            )
        eventually(self._has_said_so, patience=START_SECONDS)

    def _has_said_so(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.output
        return "Ludoteca is running." in self.output

    def login(self) -> tuple[str, str]:
        """E-mail and password of the ADMIN, as printed."""
        found = re.search(r"admin login +(\S+) +(\S+)$", self.output, re.MULTILINE)
        assert found, self.output
        return found[1], found[2]

    def children(self) -> dict[str, int]:
        """The process ids of its children: its own commands by their names (`worker`, `api.2`), and
        `postgres`."""
        assert self.process is not None
        return {name: pid for pid in _children_of(self.process.pid) if (name := _name(pid))}

    def signal(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(120)


@contextmanager
def homes() -> Iterator[Path]:
    """A folder for homes that every user may enter: pytest's own folders are closed to other
    users."""
    folder = Path(tempfile.mkdtemp(prefix="ludoteca-run-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def run_in(folder: Path, name: str, user: str | None = None, **settings: str) -> Iterator[Run]:
    """A new home and a free port; stops at the end what still runs."""
    home = folder / name
    home.mkdir(mode=0o700)
    if user is not None:
        os.chown(home, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    port = free_port()
    if user is not None:
        packages = Path(sysconfig.get_path("purelib"))
        settings = {**settings, "PYTHONPATH": f"{ROOT}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"}
    own = {"LUDOTECA_HOME": str(home), "LUDOTECA_PORT": str(port), **settings}
    others = {name: value for name, value in os.environ.items() if not name.startswith("LUDOTECA_")}
    run = Run(home, port, {**others, **own}, user)
    try:
        yield run
    finally:
        if run.process is not None and run.process.poll() is None:
            run.signal(signal.SIGTERM)


def refused(run: Run, **settings: str) -> subprocess.CompletedProcess[str]:
    """The result of a start that is expected to fail at once."""
    return subprocess.run(
        command(run.user),
        env={**run.environment, **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def is_alive(pid: int) -> bool:
    """Whether the process runs: a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def owner(pid: int) -> str:
    """The user that a process runs as."""
    return pwd.getpwuid(Path(f"/proc/{pid}").stat().st_uid).pw_name


def command(user: str | None) -> list[str]:
    """The command `ludoteca run` as this user. Other users may not be able to read root's Python:
    then the system's is used."""
    if user is None:
        return [str(LUDOTECA), "run"]
    python, account = ordinary_python(), pwd.getpwnam(user)
    assert python is not None
    drop = [
        "setpriv",
        "--reuid",
        str(account.pw_uid),
        "--regid",
        str(account.pw_gid),
        "--clear-groups",
    ]
    return [*drop, "--inh-caps=-all", python, "-m", "runtime.cli", "run"]


def ordinary_python() -> str | None:
    """A Python of our version that every user may execute, with our packages; None when there is
    none."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [
        sys.executable,
        *(f"{folder}/{version}" for folder in ("/usr/local/bin", "/usr/bin")),
    ]
    return next((each for each in candidates if _everybody_may_start(Path(each))), None)


def _everybody_may_start(path: Path) -> bool:
    return path.exists() and all(
        part.stat().st_mode & 0o001
        for each in (path, path.resolve())
        for part in (each, *each.parents)
    )


def _children_of(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(ppid) == parent and state != "Z":
            found.append(int(stat.parent.name))
    return found


def _name(pid: int) -> str:
    """The name of a process; empty for one that ended meanwhile."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")
    except OSError:
        return ""
    if words[0].endswith("postgres"):
        return "postgres"
    command, *options = words[words.index("runtime.cli") + 1 :] if "runtime.cli" in words else words
    numbers = [option.partition("=")[2] for option in options if option.startswith("--number=")]
    return ".".join([command, *numbers])
