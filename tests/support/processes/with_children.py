"""A process with children of a kind, which lasts until it is killed: `python -m … KIND URL …`."""

import sys
import time
from collections.abc import Callable
from concurrent.futures import wait
from multiprocessing import get_context
from pathlib import Path

from eventstore.database.postgres import connect
from kit.children import end_with_parent
from runtime.archive.checking import Block
from runtime.archive.reading import checkers
from runtime.audit.chain import auditors
from runtime.backup.dumps import dump

FOR_EVER = 600


def _checking(_url: str) -> None:
    with checkers(2) as pool:
        block = Block(b"no event\n", 2, 0, bytes(32), None)
        wait([pool.submit(block, 1) for _ in range(2)])
        _last()


def _auditing(url: str) -> None:
    with connect(url, "test") as conn, auditors(conn, url, 2) as pool:
        list(pool.nodes(1))
        _last()


def _forking(_url: str) -> None:
    context = get_context("fork")
    started = context.Barrier(3)
    for _ in range(2):
        context.Process(target=_forked, args=(started.wait,)).start()
    started.wait()
    _last()


def _forked(started: Callable[[], int]) -> None:
    end_with_parent()
    started()
    time.sleep(FOR_EVER)


def _dumping(url: str, path: str, snapshot: str) -> None:
    dump(url, Path(path), snapshot, ["private"], without_rows=[], report=_ready)


def _last() -> None:
    _ready()
    time.sleep(FOR_EVER)


def _ready() -> None:
    print("ready", flush=True)


KINDS: dict[str, Callable[..., None]] = {
    "checkers of an archive": _checking,
    "auditors of the log": _auditing,
    "forked": _forking,
    "pg_dump": _dumping,
}

if __name__ == "__main__":
    KINDS[sys.argv[1]](*sys.argv[2:])
