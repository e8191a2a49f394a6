"""The worker's part in the shop's audit of itself: one process of all looks at samples, and starts
a process of its own, now and then, that looks at everything."""

import asyncio
import logging
import random
import sys
import time
from collections.abc import Sequence
from datetime import timedelta

from psycopg_pool import AsyncConnectionPool

from eventstore.consumers.leadership import connected, leading
from eventstore.database.postgres import AWAY, is_away
from kit.cancellation import stop_if_cancelled
from kit.children import command_that_ends_with_parent
from projections.engine.advancing import Registered
from queries.operations.self_audit import SAMPLE, WHOLE
from runtime.self_audit.auditor import Auditor, Report
from runtime.self_audit.moment import Followed
from runtime.self_audit.recording import record
from runtime.wiring.core import Core

logger = logging.getLogger(__name__)

SHARE = 0.05
"""The most of a core that samples may take, besides what PostgreSQL takes for them."""

FIRST_WHOLE_SECONDS = 600.0
"""How long after the start everything is looked at where that has never been done; and after one
that failed, again."""

_SETTLED = "SELECT coalesce(min(settled), 0) FROM consumers.self_audit WHERE scope = %s"
_SINCE_WHOLE = """
SELECT extract(epoch FROM clock_timestamp() - min(looked_at))::float8
FROM consumers.self_audit WHERE scope = %s
"""


async def audit_itself(core: Core, models: Sequence[Registered]) -> None:
    """Look at samples and at everything, in one process of all, until cancelled. Another takes over
    when its connection ends."""
    followed = Followed()
    core.log.history.when_it_changes(followed.forget)

    async def lead() -> None:
        async with leading(core.url, "self_audit"), asyncio.TaskGroup() as group:
            group.create_task(_look_at_samples(core, models, followed))
            group.create_task(_look_at_everything(core))

    while True:
        stop_if_cancelled()
        try:
            # not in this task, which a failure would leave marked as cancelled: kit.cancellation
            await asyncio.create_task(lead(), name="self-audit")
        except* AWAY as errors:
            logger.warning("the audit lost its database: %s", errors.exceptions[0])
            await asyncio.sleep(1)


async def _look_at_samples(core: Core, models: Sequence[Registered], followed: Followed) -> None:
    settings = core.settings
    grace = timedelta(seconds=settings.self_audit_grace_seconds)
    async with connected(core.url, "ludoteca self-audit") as conn:
        since = core.clock.now()
        auditor = Auditor(conn, core.log.codec, models, core.clock, grace, followed, since)
        auditor.settled = int(await _one(core.log.pool, _SETTLED, SAMPLE) or 0)
        auditor.rolled = random.randrange(await core.log.head() + 1)  # noqa: S311 - no secret
        trouble = ""
        while True:
            stop_if_cancelled()
            before = trouble
            trouble, cpu = await _look_at_sample(core, auditor)
            if trouble and trouble != before:
                logger.warning("the audit could not look at everything: %s", trouble)
            await asyncio.sleep(max(settings.self_audit_seconds, cpu / SHARE))


async def _look_at_sample(core: Core, auditor: Auditor) -> tuple[str, float]:
    """Look at a sample, and record what was found. Returns what could not be done, and why (the log
    may not be writable, a read model not be there yet), and the seconds of CPU that it took here.
    Raises AWAY."""
    cpu = 0.0
    try:
        report, cpu = await asyncio.to_thread(_sample, auditor)
        await record(core.log.pool, core.commands.findings, report, SAMPLE)
    except Exception as error:
        if is_away(error):
            raise
        return repr(error), cpu
    failed = [f"{each.invariant}: {each.failure}" for each in report.outcomes if each.failure]
    return "; ".join(failed), cpu


def _sample(auditor: Auditor) -> tuple[Report, float]:
    """A sample, and the seconds of CPU that this thread took for it."""
    before = time.thread_time()
    report = auditor.sample()
    return report, time.thread_time() - before


async def _look_at_everything(core: Core) -> None:
    """Start the process whenever it is due. If it was while no process led, it is once the worker
    has had the grace for what came due meanwhile."""
    every = core.settings.self_audit_whole_hours * 3600
    grace = core.settings.self_audit_grace_seconds
    due = time.monotonic() + FIRST_WHOLE_SECONDS
    if (since := await _one(core.log.pool, _SINCE_WHOLE, WHOLE)) is not None:
        due = time.monotonic() + max(grace, every - since)
    while True:
        stop_if_cancelled()
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        code = await _run_whole()
        if code in (0, 1):
            due = time.monotonic() + every
        else:
            logger.warning("`ludoteca audit self` ended with %s; it is tried again later", code)
            due = time.monotonic() + FIRST_WHOLE_SECONDS


async def _run_whole() -> int:
    """Run `ludoteca audit self`, at the lowest priority: folding the log would hold up the worker's
    own work. It ends with this process."""
    command = [sys.executable, "-P", "-m", "runtime.cli", "audit", "self"]
    process = await asyncio.create_subprocess_exec(
        *command_that_ends_with_parent(command, niceness=19),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()


async def _one(pool: AsyncConnectionPool, query: str, scope: str) -> float | None:
    async with pool.connection() as conn:
        row = await (await conn.execute(query.encode(), (scope,))).fetchone()
    return None if row is None else row[0]
