"""Profiles a process under load by py-spy, and reports the time by function."""

import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from deploy.servers.common import Missing

PER_SECOND = 250
"""Samples."""

STOP_SECONDS = 60


class Profile(msgspec.Struct, frozen=True):
    """The number of samples in which a function ran itself, and in which it or its callees ran; and
    the total of samples."""

    samples: int
    itself: Counter[str]
    in_all: Counter[str]


@contextmanager
def recording(pid: int, path: Path) -> Iterator[None]:
    """Sample a process during the block, into a file of stacks. Raises Missing."""
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which(
        "py-spy"
    )
    if program is None:
        raise Missing("py-spy is not installed: pip install py-spy")
    command = [program, "record", "--pid", str(pid), "--output", str(path), "--format", "raw"]
    options = ["--function", "--rate", str(PER_SECOND), "--duration", "unlimited", "--nonblocking"]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as spy:
        try:
            yield
        finally:
            spy.send_signal(signal.SIGINT)
            spy.wait(STOP_SECONDS)
    if not path.exists():
        raise Missing(f"py-spy ended with {spy.returncode}: it takes root, or one's own process")


def read(path: Path) -> Profile:
    """Count the recorded stacks: each line lists functions from the outermost on, joined by `;`,
    and how often that stack occurred."""
    samples = 0
    itself: Counter[str] = Counter()
    in_all: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        stack, _, times = line.rpartition(" ")
        functions = _within_loop([_short(each) for each in stack.split(";")])
        samples += int(times)
        itself[functions[-1]] += int(times)
        for function in set(functions):
            in_all[function] += int(times)
    return Profile(samples, itself, in_all)


def _within_loop(functions: list[str]) -> list[str]:
    """Drop the frames common to all stacks: those that start the event loop."""
    loop = next((n for n, each in enumerate(functions) if each.startswith("Runner.run ")), 0)
    return functions[loop:]


def _short(function: str) -> str:
    """Drop the folders common to all paths."""
    name, _, where = function.partition(" (")
    return f"{name} ({where.rpartition('site-packages/')[2]}"


def markdown(profile: Profile, most: int) -> str:
    """The functions with the most samples, in percent of all."""
    parts = []
    for heading, counts in (("itself", profile.itself), ("with what it calls", profile.in_all)):
        parts += [f"| {heading} | % |", "|---|---:|"]
        parts += [
            f"| `{function}` | {100 * times / profile.samples:.1f} |"
            for function, times in counts.most_common(most)
        ]
        parts.append("")
    return "\n".join(parts)
