"""The program of other releases than this one, in folders of their own."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from eventstore.database.release import RELEASE
from tests.support import ROOT

FIRST_MIGRATION = "eventstore/sql/0006_kinds_of_streams.sql"
"""The first file that this release added to those of the last one."""

_PACKAGES = (
    "kit",
    "domain",
    "eventstore",
    "commands",
    "projections",
    "queries",
    "adapters",
    "api",
    "runtime",
)


def last_release(folder: Path) -> Path:
    """Put the program of the last release into a folder: the commit before FIRST_MIGRATION. Skips
    the test in a clone without that history."""
    log = ["log", "--diff-filter=A", "--format=%H", "--", FIRST_MIGRATION]
    added = _git(*log).decode().split()
    if not added:
        pytest.skip("this clone has no history, and so no code of the last release")
    with tarfile.open(fileobj=io.BytesIO(_git("archive", f"{added[-1]}^", *_PACKAGES[1:]))) as tar:
        tar.extractall(folder, filter="data")
    return folder


def next_release(folder: Path) -> Path:
    """Put the program of a release that follows this one into a folder: the same, under the next
    number."""
    for package in _PACKAGES:
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    number = folder / "eventstore" / "database" / "release.py"
    text = number.read_text(encoding="utf-8")
    assert f"\nRELEASE = {RELEASE}\n" in text
    number.write_text(
        text.replace(f"\nRELEASE = {RELEASE}\n", f"\nRELEASE = {RELEASE + 1}\n"), encoding="utf-8"
    )
    return folder


def _git(*arguments: str) -> bytes:
    """The output of git; empty where there is neither git nor a repository."""
    try:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return b""
