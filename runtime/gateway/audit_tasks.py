"""Has long work for auditors and operators done by processes of their own, for an API process."""

import asyncio
import logging
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from domain.errors import Conflict
from kit.uuid7 import uuid7
from queries.audit.tasks import Work, is_running
from runtime.audit.tasks import Begun, Task
from runtime.host.module_process import module_process

logger = logging.getLogger(__name__)


class AuditTasks:
    """Starts tasks, unless a process has one under way."""

    def __init__(self, url: str, pool: AsyncConnectionPool) -> None:
        self._url = url
        self._pool = pool
        self._under_way: set[asyncio.Task[None]] = set()

    async def start(self, work: Work, asked_by: str) -> UUID:
        """As `queries.audit.tasks.StartTask`."""
        if await is_running(self._pool):  # else no process is started just to be told so
            raise _running()
        task = Task(self._url, uuid7(), asked_by, work)
        begun: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        following = asyncio.create_task(_follow(task, begun))
        self._under_way.add(following)
        following.add_done_callback(self._under_way.discard)
        if not await begun:
            raise _running()
        return task.id

    async def close(self) -> None:
        """End what is under way."""
        under_way = list(self._under_way)
        for each in under_way:
            each.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def _running() -> Conflict:
    return Conflict(
        "audit_task_running",
        "another what-if, replay, rebuild, comparison or verification is under way",
    )


async def _follow(task: Task, begun: asyncio.Future[bool]) -> None:
    """Run a process until it ends, and tell whether it has begun."""
    try:
        async with module_process("runtime.audit.tasks", msgspec.json.encode(task)) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            complaint = asyncio.create_task(process.stderr.read())
            line = await process.stdout.readline()
            if line and not begun.done():
                begun.set_result(msgspec.json.decode(line, type=Begun).begun)
            said = (await complaint).decode(errors="replace")
            if await process.wait():
                logger.error("an audit task failed: %s", said[-2_000:])
                raise ConnectionError("the process of an audit task failed; its error is logged")
    except Exception as error:
        if begun.done():
            return  # noted by the process, or it died
        begun.set_exception(error)
    finally:
        begun.cancel()
