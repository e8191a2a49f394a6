"""A process that rebuilds and kills itself at a given step. Usage: python -m
tests.support.processes.rebuild DATABASE STEP"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from eventstore.consumers import checkpoints, quarantine
from eventstore.database.postgres import connect
from projections.engine import rebuild
from projections.engine.replaying import Replay
from projections.engine.tables import PostgresTable
from tests.support.events.tallies import CODEC, tallies

STEPS: dict[str, tuple[Any, str, bool]] = {
    "before the feed is there": (checkpoints, "add_building", False),
    "before the storage is there": (PostgresTable, "begin", False),
    "before it is filled": (PostgresTable, "fill", False),
    "after it is filled": (Replay, "write", True),
    "before it is indexed": (PostgresTable, "finish", False),
    "before its checkpoint is set": (checkpoints, "move", False),
    "before its quarantine is kept": (quarantine, "add", False),
    "before it is compared": (rebuild, "_compare", False),
    "after it is compared": (rebuild, "_compare", True),
    "before it is active": (checkpoints, "activate", False),
    "after it is active": (checkpoints, "activate", True),
    "after the switch": (rebuild, "_switch", True),
}
"""The function at which the process dies, and whether it dies after the call."""


def _die_at(step: str) -> None:
    owner, name, after = STEPS[step]
    original: Callable[..., Any] = getattr(owner, name)

    def dying(*values: Any, **named: Any) -> None:
        if after:
            original(*values, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, dying)


if __name__ == "__main__":
    _die_at(sys.argv[2])
    with connect(sys.argv[1], "test") as conn:
        rebuild.rebuild(conn, CODEC, tallies(), lambda _done, _all: None)
