"""The worker: reacts to events, handles the queues' jobs, and fires deadlines."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from time import monotonic
from typing import Any

from commands.ports.queue import JobAttempt, JobHandler
from commands.ports.sessions import Sessions
from domain.errors import Refused
from eventstore.consumers.leadership import leading
from eventstore.consumers.reactor_runner import ReactorRunner
from eventstore.database.postgres import AWAY, is_away
from eventstore.log import AlreadyDone
from eventstore.postgres_log import PostgresLog
from kit import tracing
from kit.cancellation import stop_if_cancelled
from kit.clock import Clock
from kit.error_groups import first_error
from kit.log_context import about_request
from kit.metrics import JOB_SECONDS
from projections.registry import read_models
from runtime.processes.ageing import Duty, duties_of, fulfil
from runtime.processes.alerting import keep_alerting
from runtime.processes.erasing import keep_deleting_messages
from runtime.processes.lost_acts import keep_giving_up
from runtime.processes.self_auditing import audit_itself
from runtime.processes.signing import keep_signing
from runtime.processes.watching import watch_writer
from runtime.settings import Settings
from runtime.wiring.core import Core, open_core
from runtime.wiring.work import UNAVAILABLE, WORK, Queues, deadlines_of, open_queues, reactors_of

logger = logging.getLogger(__name__)

PURGE_SECONDS = 600
"""How often expired rows are deleted. No reader depends on it: all of them check the time."""

PROOF_SECONDS = 0.1
"""How long a proof that the log can be written lets jobs start, unless one of them fails."""


async def work(settings: Settings) -> None:
    """React to events, handle the queues' jobs, fire deadlines."""
    async with (
        open_core(settings) as core,
        open_queues(core) as queues,
        watch_writer(core.log),
        asyncio.TaskGroup() as group,
    ):
        runner = ReactorRunner(
            core.url,
            core.log,
            reactors_of(core, queues),
            outcomes=(Refused, AlreadyDone),
            unavailable=UNAVAILABLE,
        )
        group.create_task(runner.run())
        for jobs in consumers(core, queues):
            group.create_task(jobs)
        group.create_task(keep_deleting_messages(core))
        group.create_task(_fire_deadlines(core, duties_of(core, queues)))
        group.create_task(audit_itself(core, read_models()))
        group.create_task(keep_signing(core))
        group.create_task(keep_alerting(core, queues))


def consumers(core: Core, queues: Queues) -> Iterator[Coroutine[Any, Any, None]]:
    """Consumers that handle the jobs of each queue until cancelled."""
    log = WritableLog(core.log.prove_writer)
    for work in WORK:
        worker = work.worker(core)
        handler = observed(work.queue, log.before(worker.handle))
        concurrency = work.concurrency(core.settings)
        yield queues[work.queue].consume(handler, concurrency=concurrency, lost=worker.lost)


def observed(queue: str, handler: JobHandler) -> JobHandler:
    """The handler, whose attempts are timed and counted by their outcome: `done`; `failed`, to be
    tried again; `dead` after the last attempt; `postponed` while our own database is away;
    `interrupted` when the worker stops. What it logs names the request that led to the job."""

    async def handle(attempt: JobAttempt) -> None:
        started, outcome, body = monotonic(), "interrupted", attempt.job.body
        traceparent = body.get("traceparent")
        with (
            tracing.span(f"job {queue}", traceparent, kind="consumer"),
            about_request(body.get("correlation_id"), tracing.traceparent(traceparent)),
        ):
            try:
                await handler(attempt)
                outcome = "done"
            except Exception as error:
                outcome = "postponed" if is_away(error) else "dead" if attempt.last else "failed"
                raise
            finally:
                JOB_SECONDS.labels(queue, outcome).observe(monotonic() - started)
                tracing.describe({"job.attempt": attempt.number, "job.outcome": outcome})

    return handle


class WritableLog:
    """Lets jobs start only while the log can be written: what they do outside could not be recorded
    otherwise. `prove` raises when it cannot; it holds for some `seconds`."""

    def __init__(
        self, prove: Callable[[], Awaitable[None]], seconds: float = PROOF_SECONDS
    ) -> None:
        self._prove = prove
        self._seconds = seconds
        self._proved_until = 0.0  # of the monotonic clock

    def before(self, handler: JobHandler) -> JobHandler:
        """The handler, started only after a proof of the last moments."""

        async def handle(attempt: JobAttempt) -> None:
            if monotonic() > self._proved_until:
                await self._prove()
                self._proved_until = monotonic() + self._seconds
            try:
                await handler(attempt)
            except BaseException:
                self._proved_until = 0.0
                raise

        return handle


async def _fire_deadlines(core: Core, duties: Mapping[str, Duty]) -> None:
    """Fire deadlines, delete what is over, and give up lost acts in one process of all. Another
    takes over when its connection ends."""
    deadlines = deadlines_of(core)

    async def lead() -> None:
        async with leading(core.url, "deadlines"), asyncio.TaskGroup() as group:
            group.create_task(deadlines.run())
            group.create_task(purge_expired(core.log, core.adapters.sessions, core.clock, duties))
            group.create_task(keep_giving_up(core))

    while True:
        stop_if_cancelled()
        try:
            # not in this task, which a failure would leave marked as cancelled: kit.cancellation
            await asyncio.create_task(lead(), name="deadlines")
        except* AWAY as errors:
            logger.warning("deadlines lost their database: %s", first_error(errors))
            await asyncio.sleep(1)


async def purge_expired(
    log: PostgresLog, sessions: Sessions, clock: Clock, duties: Mapping[str, Duty]
) -> None:
    """Delete expired idempotency keys and sessions, and what the duties delete, from time to time.
    Raises psycopg.OperationalError."""
    while True:
        await log.purge_expired()
        await sessions.purge_expired(clock.now())
        await fulfil(duties)
        await asyncio.sleep(PURGE_SECONDS)
