"""CPU time of processes, from /proc: user and system time, of all threads and children."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks.measuring import Sample

POSTGRES = "PostgreSQL"
Usage = Mapping[tuple[str, int], float]
"""CPU seconds so far, by name and process id."""

_TICKS = os.sysconf("SC_CLK_TCK")
_BACKEND = re.compile(rb"postgres: \S+ (\S+) ")


class _Process(msgspec.Struct, frozen=True):
    parent: int
    seconds: float


def used(roots: Mapping[str, Sequence[int]]) -> Usage:
    """The CPU time of these processes and their living descendants."""
    processes = dict(_processes())
    return {
        (name, pid): processes[pid].seconds
        for name, pids in roots.items()
        for root in pids
        for pid in _tree(processes, root)
    }


def used_by_postgres(server: int, database: str, *, without: int) -> Usage:
    """The CPU time of a PostgreSQL server's processes, except backends of other databases and the
    backend `without`, which serves the benchmark itself."""
    return {
        (name, pid): seconds
        for (name, pid), seconds in used({POSTGRES: [server]}).items()
        if pid != without and _database(pid) in {None, database}
    }


def spent(before: Usage, after: Usage) -> dict[str, float]:
    """CPU seconds between two readings, by name; those of processes that ended in between are
    missing."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for key, now in after.items():
        seconds[key[0]] += now - before.get(key, 0)
    return dict(seconds)


def with_cpu(sample: Sample, seconds: Mapping[str, float], operations: int) -> Sample:
    """A sample with the CPU time of each operation."""
    cpu = {name: each * 1000 / operations for name, each in seconds.items()}
    return msgspec.structs.replace(sample, cpu_ms=cpu)


def _database(pid: int) -> str | None:
    """The database of a backend; None for another process."""
    try:
        found = _BACKEND.match(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return None
    return found[1].decode() if found else None


def _tree(processes: Mapping[int, _Process], root: int) -> Iterator[int]:
    if root in processes:
        yield root
    for pid, process in processes.items():
        if process.parent == root:
            yield from _tree(processes, pid)


def _processes() -> Iterator[tuple[int, _Process]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # the second field is the program's name, which may contain anything
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        seconds = (int(fields[11]) + int(fields[12])) / _TICKS
        yield int(path.parent.name), _Process(int(fields[1]), seconds)
