"""Has long work for auditors and operators done by processes of their own, for an API process, and
records the acts that it is."""

import asyncio
import logging
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from commands.acts import ActCommands, ActUnderWay, Asked
from commands.caller import Caller
from domain.acts import INTERRUPTED, ActName
from domain.errors import Conflict
from kit.metrics import rebuild_progress
from kit.uuid7 import uuid7
from queries.audit import tasks as audit_tasks
from queries.audit.tasks import (
    DIED,
    AuditTask,
    Comparison,
    Rebuild,
    Replay,
    Verification,
    WhatIf,
    Work,
)
from runtime.audit.tasks import Begun, Reached, Said, Task
from runtime.host.module_process import module_process

logger = logging.getLogger(__name__)


class AuditTasks:
    """Starts tasks, unless a process has one under way. One that is an act begins and ends with it,
    under the same id."""

    def __init__(self, url: str, pool: AsyncConnectionPool, acts: ActCommands) -> None:
        self._url = url
        self._pool = pool
        self._acts = acts
        self._under_way: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()

    async def start(self, work: Work, caller: Caller, reason: str | None = None) -> UUID:
        """As `api.services.StartTask`."""
        task = Task(self._url, uuid7(), caller.actor, work)
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        async with self._starting:  # of many who ask at once, the others see that one has begun
            following = asyncio.create_task(self._do(task, caller, reason, begun))
            self._under_way.add(following)
            following.add_done_callback(self._under_way.discard)
            await begun
        return task.id

    async def close(self) -> None:
        """End what is under way."""
        under_way = list(self._under_way)
        for each in under_way:
            each.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _do(
        self, task: Task, caller: Caller, reason: str | None, begun: asyncio.Future[None]
    ) -> None:
        """Have the task done, and record the act that it is. Tells when it has begun."""
        try:
            if (act := _act_of(task)) is None:
                await self._follow(task, begun)
            else:
                async with self._acts.all_recorded(caller, act[0], reason, act[1]) as (under_way,):
                    await self._follow(task, begun)
                    tell_end(under_way, await audit_tasks.task(self._pool, task.id))
        except Exception as error:
            if begun.done():
                logger.exception("an audit task was not followed to its end")
            else:
                begun.set_exception(error)
        finally:
            begun.cancel()

    async def _follow(self, task: Task, begun: asyncio.Future[None]) -> None:
        """Run a process until it ends. Raises Conflict("audit_task_running"), ConnectionError if it
        does not even begin; how it ends otherwise it notes itself, unless it dies."""
        if await audit_tasks.is_running(self._pool):  # no process is started just to be told so
            raise _running()
        rebuilt = task.work.projection if isinstance(task.work, Rebuild) else None
        async with module_process("runtime.audit.tasks", msgspec.json.encode(task)) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            complaint = asyncio.create_task(process.stderr.read())
            with rebuild_progress(rebuilt) as progress:
                async for line in process.stdout:
                    match msgspec.json.decode(line, type=Said):
                        case Begun(begun=False):
                            raise _running()
                        case Begun() if not begun.done():
                            begun.set_result(None)
                        case Reached(done=done, total=total):
                            progress(done, total)
            said = (await complaint).decode(errors="replace")
            if await process.wait():
                logger.error("an audit task failed: %s", said[-2_000:])
        if not begun.done():
            raise ConnectionError("the process of an audit task failed; its error is logged")


def _act_of(task: Task) -> tuple[ActName, Asked] | None:
    """The act that a task is; None if it only looks."""
    details = {"task_id": str(task.id)}
    match task.work:
        case WhatIf():
            return "whatif.ask", Asked(None, details, task.id)
        case Replay(position=position):
            return "replay.ask", Asked(str(position), details, task.id)
        case Rebuild(projection=name, replace=replace):
            if replace:
                details["replace"] = "even if they differ"
            return "projection.rebuild", Asked(name, details, task.id)
        case Comparison() | Verification():
            return None


_TOLD = ("storage", "schema", "postings_decided_again", "postings_that_differ")
"""What the act tells of a task's result, besides how much it affected."""


def tell_end(act: ActUnderWay, task: AuditTask | None) -> None:
    """Tell how a task ended, whose process has, in the act that it is; None is a task that is not
    kept any more. One without an end died, though its session may last a little longer."""
    if task is None:
        act.error = INTERRUPTED
        return
    act.error = (DIED if task.ended_at is None else task.failure) or None
    result = {} if task.result is None else msgspec.json.decode(task.result, type=dict[str, object])
    match task.work, result:
        case Rebuild(), {"rows": int(rows)}:
            act.affected = rows
        case Replay(), {"read_models": list(built)}:
            act.affected = len(built)
    act.details |= {name: str(result[name]) for name in _TOLD if name in result}


def _running() -> Conflict:
    return Conflict(
        "audit_task_running",
        "another what-if, replay, rebuild, comparison or verification is under way",
    )
