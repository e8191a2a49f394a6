"""When a process is killed, which can then not end its children, they end all the same."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from kit.children import command_that_ends_with_parent
from tests.support import ROOT
from tests.support.events.tallies import Counted
from tests.support.processes.instance import eventually
from tests.support.shops.engine import Desk


@pytest.mark.parametrize("kind", ["checkers of an archive", "auditors of the log", "forked"])
async def test_processes_of_a_pool_end_with_a_killed_parent(desk: Desk, kind: str) -> None:
    await desk.append(uuid4(), Counted(1))
    with _parent(kind, desk.database) as parent:
        _they_end(parent)


def test_pg_dump_ends_with_a_killed_parent(database: str, tmp_path: Path) -> None:
    with (
        psycopg.connect(database) as locking,
        psycopg.connect(database) as conn,
    ):
        locking.execute("LOCK TABLE private.secrets")  # so that it does not end by itself
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        row = conn.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        with _parent("pg_dump", database, str(tmp_path / "dump"), row[0]) as parent:
            _they_end(parent)


def test_a_child_starts_as_if_nothing_stood_in_between() -> None:
    """But for its priority."""
    script = "grep SigIgn /proc/self/status; nice; echo $$"
    plain = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    wrapped = subprocess.Popen(
        command_that_ends_with_parent(["sh", "-c", script], niceness=3),
        stdout=subprocess.PIPE,
        text=True,
    )
    ignored, niceness, pid = plain.communicate()[0].split("\n")[:3]
    assert pid == str(plain.pid)
    expected = [ignored, str(int(niceness) + 3), str(wrapped.pid), ""]
    assert wrapped.communicate()[0].split("\n") == expected


@contextmanager
def _parent(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    module = "tests.support.processes.with_children"
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _they_end(parent: subprocess.Popen[bytes]) -> None:
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    children = _children(parent.pid)
    assert children
    parent.kill()
    parent.wait()
    eventually(lambda: not any(map(_runs, children)))


def _children(parent: int) -> list[int]:
    """Those in `/proc`, whose stat has the parent in its fourth field, behind the name."""
    found = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(each.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(each.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
