"""The worker: reacts to events, does the queues' jobs, fires deadlines."""

import asyncio
import logging

from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from adapters.postgres.sessions import PostgresSessions
from commands.accounts.belongings import NotSeenYet
from commands.deadlines import Deadlines
from commands.ports.queue import Delivery, JobHandler
from domain.errors import Refused
from eventstore.consumers.leadership import leading
from eventstore.consumers.reactor_runner import ReactorRunner
from eventstore.database.postgres import AWAY
from eventstore.log import AlreadyDone
from eventstore.postgres_log import PostgresLog
from kit.clock import Clock
from runtime.processes.watching import writing
from runtime.settings import Settings
from runtime.wiring.core import Core, open_core, open_queues
from runtime.wiring.models import due_times

log = logging.getLogger(__name__)

PURGE_SECONDS = 600
"""How often what has expired is dropped. Nobody reads it meanwhile: every reader looks at the time."""

UNAVAILABLE = (TimeoutError, ConnectionError, AMQPError, ChannelInvalidStateError, NotSeenYet)
"""What a reactor meets while the work queues' broker, or the projector, is away."""


async def work(settings: Settings) -> None:
    """React to events, handle the queues' jobs, fire deadlines."""
    async with (
        open_core(settings) as core,
        open_queues(core) as queues,
        writing(core.log),
        asyncio.TaskGroup() as group,
    ):
        outcomes = (Refused, AlreadyDone)
        reactors = core.reactors(queues)
        runner = ReactorRunner(core.url, core.log, reactors, outcomes=outcomes, unavailable=UNAVAILABLE)
        group.create_task(runner.run())

        def when_writable(handler: JobHandler) -> JobHandler:
            """What happens outside could not be recorded while the log is away: so it is not begun."""

            async def handle(delivery: Delivery) -> None:
                await core.log.prove_writer()
                await handler(delivery)

            return handle

        payments = core.payment_worker()
        group.create_task(
            queues.payments.consume(when_writable(payments.handle), concurrency=settings.workers, lost=payments.lost)
        )
        group.create_task(queues.mail.consume(when_writable(core.notice_worker().handle), concurrency=8))
        group.create_task(queues.fiscal.consume(when_writable(core.receipt_worker().handle), concurrency=8))
        group.create_task(queues.webhooks.consume(when_writable(core.webhook_worker().handle), concurrency=32))
        group.create_task(_keep_time(core))


async def _keep_time(core: Core) -> None:
    """One process of all fires deadlines and drops what has expired; another takes over when its connection ends."""
    deadlines = Deadlines(due_times(core), core.deadline_commands, core.clock)
    while True:
        try:
            async with leading(core.url, "deadlines"), asyncio.TaskGroup() as group:
                group.create_task(deadlines.run())
                group.create_task(purge_expired(core.log, core.clock))
        except* AWAY as errors:
            log.warning("deadlines lost their database: %s", errors.exceptions[0])
            await asyncio.sleep(1)


async def purge_expired(log_: PostgresLog, clock: Clock) -> None:
    """Drop the idempotency keys and sessions whose time is over, now and then. Raises psycopg.OperationalError."""
    sessions = PostgresSessions(log_.pool)
    while True:
        await log_.purge_expired()
        await sessions.purge_expired(clock.now())
        await asyncio.sleep(PURGE_SECONDS)
