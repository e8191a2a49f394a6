"""A process that rebuilds in three processes, however small the log. Usage: python -m
tests.support.processes.rebuild_in_parts DATABASE PROJECTION [STEP starter|part]

Exits with 3 when one of the three died. At STEP, one of `STEPS`, the process that rebuilds is
killed, or that which folds a part. At the step `LOGS`, nobody is: each part logs something.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg

from eventstore.consumers import checkpoints
from eventstore.database.postgres import connect
from projections.engine import parts, rebuild, replaying
from projections.engine.replaying import Replay
from projections.engine.tables import PostgresTable
from tests.support.events.tallies import CODEC, Tallies, tallies, uses

PARTS = 3
STARTER = os.getpid()

STEPS: dict[str, tuple[Any, str]] = {
    "before it takes part": (checkpoints, "take_part"),
    "before it reads": (Replay, "become_part"),
    "before it fills": (PostgresTable, "_copy"),
    "before it writes again": (PostgresTable, "write"),
    "before it says what it did": (psycopg.Connection, "close"),
}
"""The function before which it is killed, in each of the three processes."""

LOGS = "logs at a terminal"


def _kill_at(step: str, who: str) -> None:
    owner, name = STEPS[step]
    original: Callable[..., Any] = getattr(owner, name)

    def killing(*values: Any, **named: Any) -> Any:
        if os.getpid() != STARTER:
            os.kill(STARTER if who == "starter" else os.getpid(), signal.SIGKILL)
        return original(*values, **named)

    setattr(owner, name, killing)


class _Terminal(logging.Handler):
    """A thread of the first process draws on it, and has its lock while others are forked."""

    def __init__(self) -> None:
        super().__init__()
        self._drawing = threading.Lock()
        self._drawing.acquire()

    def emit(self, record: logging.LogRecord) -> None:
        with self._drawing:
            pass


def _log_in_parts() -> None:
    logging.getLogger().addHandler(_Terminal())
    original = Replay.become_part

    def logs(*values: Any) -> None:
        logging.getLogger(__name__).warning("this is slow")
        original(*values)

    Replay.become_part = logs  # type: ignore[method-assign, assignment]


def _main(database: str, projection: str, step: str = "none", who: str = "") -> int:
    replaying.PAGE, replaying.HELD_BYTES = 7, 3_000
    parts.EVENTS_EACH = 1
    parts._SAMPLE = parts._SAMPLE.replace("TABLESAMPLE SYSTEM (1)", "")
    if step == LOGS:
        _log_in_parts()
    elif step != "none":
        _kill_at(step, who)
    registered = {"tallies": tallies, "uses": uses}[projection]()
    if isinstance(registered.projection, Tallies):
        registered.projection.refuses = {13}
    processes = rebuild.Processes(PARTS, partial(connect, database, "test part"))
    seen = list[int]()
    with connect(database, "test") as conn:
        try:
            rebuild.rebuild(
                conn, CODEC, registered, lambda done, _all: seen.append(done), processes=processes
            )
        except rebuild.ProcessDied:
            return 3
    assert seen == sorted(seen), "progress"
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
