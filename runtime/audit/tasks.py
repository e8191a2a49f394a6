"""Does long work that was asked for over HTTP (`queries.audit.tasks`), in a process of its own.
What it is comes by stdin; how far it is, and what came of it, go to the database."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from uuid import UUID

import msgspec
import psycopg

from eventstore.consumers import checkpoints
from eventstore.consumers.checkpoints import CheckpointMoved
from eventstore.database.postgres import connect
from kit.wording import described, kept
from projections.engine import past, rebuild
from projections.engine.advancing import Registered
from projections.engine.parts import ProcessDied, Processes, usual_count
from projections.engine.past import BuiltElsewhere, NoRight, ReadNow
from projections.registry import read_models
from queries.audit.tasks import (
    DIED,
    DIED_CODE,
    KEPT,
    LOCK,
    Comparison,
    Rebuild,
    Replay,
    Verification,
    WhatIf,
    Work,
)
from runtime.audit.chain import audit
from runtime.audit.past_building import NICENESS, PROCESSES, build_missing
from runtime.settings import Settings
from runtime.what_if import ledger, notices
from runtime.what_if.report import report_of
from runtime.what_if.rules import Rules
from runtime.wiring.codec import codec
from runtime.wiring.master_key import use_master_key
from runtime.wiring.search import all_models

NOTED_SECONDS = 0.5
"""How often it is noted how far the work is."""

PATIENCE_SECONDS = 2.0
"""How long a process that has done its task may take to end."""

_GIVE_UP_DEAD = """
UPDATE consumers.audit_tasks SET ended_at = clock_timestamp(), error = %s, code = %s
WHERE ended_at IS NULL
"""
_BEGIN = "INSERT INTO consumers.audit_tasks (id, asked, asked_by) VALUES (%s, %s, %s)"
_DROP_OLD = """
DELETE FROM consumers.audit_tasks WHERE id NOT IN (
    SELECT id FROM consumers.audit_tasks ORDER BY begun_at DESC LIMIT %s
)
"""
_NOTE = """
UPDATE consumers.audit_tasks SET done = %(done)s, total = %(total)s, noted_at = clock_timestamp(),
    stage_since = CASE WHEN stage = %(stage)s THEN stage_since ELSE clock_timestamp() END,
    stage = %(stage)s
WHERE id = %(id)s
"""
_END = """
UPDATE consumers.audit_tasks SET ended_at = clock_timestamp(), result = %s WHERE id = %s
"""
_FAIL = """
UPDATE consumers.audit_tasks SET ended_at = clock_timestamp(), error = %s, code = %s WHERE id = %s
"""

Progress = Callable[[str, int, int], None]

_EXPECTED: Mapping[type[Exception], str] = {
    BuiltElsewhere: "busy",
    NoRight: "no_right",
    ProcessDied: DIED_CODE,
    ReadNow: "being_read",
    CheckpointMoved: "moved_meanwhile",
    rebuild.Busy: "busy",
    rebuild.CatchingUp: "catching_up",
    rebuild.NeverRan: "never_ran",
    rebuild.Unequal: "rows_differ",
}
"""What may come between, and the code of each; the message says what it was."""


class Task(msgspec.Struct, frozen=True):
    """What a process is to do, on which database, and for whom."""

    url: str
    id: UUID
    asked_by: str
    work: Work


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """Whether the work has begun: another task may be under way."""

    begun: bool


class Reached(msgspec.Struct, frozen=True, tag="reached"):
    """How far the stage at hand is."""

    done: int
    total: int


Said = Begun | Reached
"""What a process says of its task."""

Tell = Callable[[Said], None]


def do(task: Task, tell: Tell) -> None:
    """Do the work, unless another task is under way, and note what comes of it."""
    with (
        connect(task.url, "ludoteca audit task") as noting,
        connect(task.url, "ludoteca audit task") as conn,
    ):
        if not _leads(noting):
            tell(Begun(begun=False))
            return
        noting.execute(_GIVE_UP_DEAD, (DIED, DIED_CODE))
        noting.execute(_BEGIN, (task.id, msgspec.json.encode(task.work).decode(), task.asked_by))
        noting.execute(_DROP_OLD, (KEPT,))
        tell(Begun(begun=True))
        try:
            result = _done(conn, task, _Noting(noting, task.id, tell))
        except tuple(_EXPECTED) as error:
            noting.execute(_FAIL, (kept(str(error)), _EXPECTED[type(error)], task.id))
        except Exception as error:
            noting.execute(_FAIL, (described(error), "internal_error", task.id))
            raise
        else:
            noting.execute(_END, (msgspec.json.encode(result).decode(), task.id))


def _leads(conn: psycopg.Connection) -> bool:
    """Whether no other process does a task. One that has noted its end is waited for."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while not checkpoints.try_lead(conn, LOCK):
        if time.monotonic() > patience:
            return False
        time.sleep(0.05)
    return True


class _Noting:
    """Notes and tells how far the work is, now and then and at each stage's begin."""

    def __init__(self, conn: psycopg.Connection, task_id: UUID, tell: Tell) -> None:
        self._conn = conn
        self._task_id = task_id
        self._tell = tell
        self._stage = ""
        self._noted = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage == self._stage and now - self._noted < NOTED_SECONDS:
            return
        self._stage, self._noted = stage, now
        values = {"stage": stage, "done": done, "total": total, "id": self._task_id}
        self._conn.execute(_NOTE, values)
        self._tell(Reached(done, total))


def _done(conn: psycopg.Connection, task: Task, progress: Progress) -> object:
    match task.work:
        case WhatIf() as asked:
            return _what_if(conn, asked, progress)
        case Replay(position=position):
            return _replay(task.url, conn, position, progress)
        case Rebuild(projection=name, replace=replace):
            processes = Processes(
                min(PROCESSES, usual_count()), partial(connect, task.url, "ludoteca rebuild")
            )
            return rebuild.rebuild(
                conn,
                codec(),
                _model(name),
                partial(progress, "positions"),
                replace=replace,
                processes=processes,
            )
        case Comparison(projection=name):
            return _comparison(conn, name, progress)
        case Verification():
            return _verification(task.url, progress)


def _what_if(conn: psycopg.Connection, asked: WhatIf, progress: Progress) -> object:
    rules = Rules(
        asked.since, asked.until, asked.platform_fee_bps, asked.low_stock, asked.tax_rates
    )
    head = checkpoints.head(conn)
    change = ledger.decide_again(conn, codec(), rules, head, partial(progress, "postings"))
    told = notices.decide_again(conn, codec(), rules, head, partial(progress, "stocks"))
    return report_of(head, change, told)


def _replay(url: str, conn: psycopg.Connection, position: int, progress: Progress) -> object:
    def positions(_model: str, done: int, upto: int) -> None:
        progress("positions", done, upto)

    with past.exclusively(conn, position):
        build_missing(
            url,
            conn,
            read_models(),
            position,
            count=min(PROCESSES, usual_count()),
            kept=True,
            progress=positions,
        )
        built = past.moment(conn, position)
    assert built is not None
    return {"schema": built.schema, "read_models": built.models}


def _comparison(conn: psycopg.Connection, name: str, progress: Progress) -> object:
    verified = rebuild.verify(conn, codec(), _model(name), partial(progress, "positions"))
    difference = verified.difference
    return {
        "position": verified.position,
        "equal": difference.equal,
        "rows": difference.stored,
        "replayed_rows": difference.replayed,
        "differing_keys": difference.keys,
        "quarantined": verified.quarantined,
    }


def _verification(url: str, progress: Progress) -> object:
    def positions(_stage: str, done: int, upto: int) -> None:
        progress("positions", done, upto)

    begun = time.monotonic()
    finding = audit(url, None, (), positions, jobs=min(PROCESSES, usual_count()))
    seconds = time.monotonic() - begun
    return {
        "intact": not finding.faults,
        "position": finding.position,
        "hash": finding.hash.hex(),
        "anchor": f"{finding.position}:{finding.hash.hex()}",
        "faults": finding.faults,
        "seconds": round(seconds, 3),
        "per_second": round(finding.position / seconds),
    }


def _model(name: str) -> Registered:
    """The read model of this name, which the gateway has looked for."""
    return next(each for each in all_models(Settings()) if each.projection.name == name)


def main() -> None:
    """Do what stdin tells (`Task`), and print lines of JSON (`Said`)."""
    os.nice(NICENESS)
    use_master_key(Settings())
    do(msgspec.json.decode(sys.stdin.buffer.read(), type=Task), _say)


def _say(what: Said) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
