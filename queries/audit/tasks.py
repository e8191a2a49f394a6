"""Long work that an auditor or an operator asked for: what if, replays, rebuilds, comparisons,
verifications. A process of its own does it (`runtime.audit.tasks`), one at a time in all
processes."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from eventstore.database.locks import LEAD

LOCK = "audit task"
"""The name under which the process leads that does a task."""

KEPT = 20
"""How many tasks are kept, the latest."""


class WhatIf(msgspec.Struct, frozen=True, tag="whatif"):
    """What would have been posted and sent under other rules, from `since` on and before `until`;
    None is a rule that stays as it was. `tax_rates` are basis points by region, `*` for all
    others."""

    since: datetime
    until: datetime | None = None
    platform_fee_bps: int | None = None
    low_stock: int | None = None
    tax_rates: Mapping[str, int] | None = None


class Replay(msgspec.Struct, frozen=True, tag="replay"):
    """All read models as they were at a position, in a schema that is kept."""

    position: int


class Rebuild(msgspec.Struct, frozen=True, tag="rebuild"):
    """A rebuild of a read model beside the live one. It takes its place if both have the same rows;
    with `replace`, also if not."""

    projection: str
    replace: bool = False


class Comparison(msgspec.Struct, frozen=True, tag="comparison"):
    """A read model's rows compared with what the log gives."""

    projection: str


class Verification(msgspec.Struct, frozen=True, tag="verification"):
    """The whole log's hash chain, and whether it has what was signed."""


Work = WhatIf | Replay | Rebuild | Comparison | Verification

State = Literal["RUNNING", "DONE", "FAILED"]

DIED, DIED_CODE = "its process died", "process_died"
"""Why a task failed that never noted its end."""


class AuditTask(msgspec.Struct, frozen=True):
    """A task. `done` of `total` positions or subjects are behind it in the stage at hand, which
    began at `stage_since`, as was noted at `noted_at`. `result` is JSON."""

    id: UUID
    asked: str
    asked_by: str
    begun_at: datetime
    stage: str
    stage_since: datetime
    noted_at: datetime
    done: int
    total: int
    ended_at: datetime | None
    error: str
    code: str
    result: str | None
    alive: bool

    @property
    def work(self) -> Work:
        """What was asked for."""
        return _work.decode(self.asked)

    @property
    def state(self) -> State:
        """Whether it is under way, has its result, or failed: `error` tells why, unless its process
        died."""
        if self.ended_at is None:
            return "RUNNING" if self.alive else "FAILED"
        return "FAILED" if self.error else "DONE"

    @property
    def failure(self) -> str:
        """Why it failed; empty unless it did."""
        return (self.error or DIED) if self.state == "FAILED" else ""

    @property
    def failure_code(self) -> str:
        """Why it failed, in a word that programs decide by; empty unless it did, and of tasks of
        earlier releases."""
        return "" if self.state != "FAILED" else self.code if self.error else DIED_CODE

    @property
    def per_second(self) -> float | None:
        """How fast the stage goes; None at its begin."""
        seconds = (self.noted_at - self.stage_since).total_seconds()
        return self.done / seconds if seconds > 0 and self.done else None

    @property
    def seconds_left(self) -> float | None:
        """How long the stage takes from now on; None while that is not known."""
        speed = self.per_second
        return None if speed is None else max(0, self.total - self.done) / speed


_work: msgspec.json.Decoder[Work] = msgspec.json.Decoder(Work)

_ALIVE = f"""EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND classid = {LEAD} AND objsubid = 2
        AND objid = (hashtext('{LOCK}')::bigint & 4294967295)::oid
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)"""

_TASKS = f"""
SELECT {", ".join(AuditTask.__struct_fields__[:-1])}, {_ALIVE} AS alive FROM consumers.audit_tasks
WHERE %(id)s::uuid IS NULL OR id = %(id)s ORDER BY begun_at DESC
"""


_IS_RUNNING = f"""
SELECT EXISTS (SELECT FROM consumers.audit_tasks WHERE ended_at IS NULL) AND {_ALIVE}
"""


async def tasks(pool: AsyncConnectionPool) -> list[AuditTask]:
    """The tasks that are kept, the latest first."""
    return await _tasks(pool, None)


async def task(pool: AsyncConnectionPool, task_id: UUID) -> AuditTask | None:
    """A task; None if there is no such task, or no longer."""
    found = await _tasks(pool, task_id)
    return found[0] if found else None


async def is_running(pool: AsyncConnectionPool) -> bool:
    """Whether a task is under way."""
    async with pool.connection() as conn:
        row = await (await conn.execute(_IS_RUNNING.encode())).fetchone()
    return bool(row and row[0])


async def _tasks(pool: AsyncConnectionPool, task_id: UUID | None) -> list[AuditTask]:
    async with pool.connection() as conn, conn.cursor(row_factory=class_row(AuditTask)) as cursor:
        await cursor.execute(_TASKS.encode(), {"id": task_id})
        return await cursor.fetchall()
