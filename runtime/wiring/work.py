"""The work of the workers: the queues of jobs (a row of `WORK` for each), the reactors, and the
deadlines."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aio_pika.abc import AbstractRobustConnection
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError

from adapters.queues import rabbitmq
from adapters.queues.postgres import PostgresQueue
from adapters.queues.postgres_listener import JobListener
from commands.accounts.belongings import NotSeenYet
from commands.accounts.mailboxes import mailboxes_claimed
from commands.catalog import sku_claims
from commands.deadlines import DeadlineRunner, Fire
from commands.ports.queue import JobWorker, WorkQueue
from commands.reactors import notifications
from commands.reactors.deposits import Deposits
from commands.reactors.forgetting import forgetting
from commands.reactors.ledger import Ledger
from commands.reactors.library_grants import library_grants
from commands.reactors.payment_jobs import payment_jobs
from commands.reactors.reactor import Reactor
from commands.reactors.settlement import settlement
from commands.reactors.stock_opened import stock_opened
from commands.reactors.webhooks import merchant_webhooks, webhook_jobs
from commands.services import Commands
from commands.workers.notifications import NotificationWorker
from commands.workers.payments import PaymentWorker
from commands.workers.receipts import ReceiptWorker, fiscal_receipts
from commands.workers.webhooks import WebhookWorker
from kit.tls import Trust
from projections.models.deadlines import CART, DEPOSIT_PAYMENT, HOLD, ORDER_PAYMENT, TRANSFER
from queries.engine.read_models import ReadModels
from queries.operations.deadlines import DueTimes
from runtime.settings import Settings
from runtime.wiring.core import Core

LEASE_SECONDS = 10
"""How long the jobs of a killed worker wait for another worker. Doing a job twice is harmless."""

UNAVAILABLE = (TimeoutError, ConnectionError, AMQPError, ChannelInvalidStateError, NotSeenYet)
"""Errors that a reactor may get while the broker or the projector is down."""

Queues = Mapping[str, WorkQueue]
"""The work queues by name, in the order of `WORK`."""


# -- jobs ------------------------------------------------------------------------------------------


def payment_worker(core: Core) -> PaymentWorker:
    """Calls the payment provider."""
    adapters = core.adapters
    secrets = core.commands.sealed_secrets
    return PaymentWorker(
        core.handler, adapters.payment_provider, secrets, adapters.payment_worker_log
    )


def notification_worker(core: Core) -> NotificationWorker:
    """Sends mails and push messages."""
    return NotificationWorker(
        core.handler,
        {"email": core.adapters.mailer, "push": core.adapters.pusher},
        core.settings.api_url,
    )


def receipt_worker(core: Core) -> ReceiptWorker:
    """Reports receipts to the fiscal operator."""
    return ReceiptWorker(core.handler, core.adapters.fiscal_operator)


def webhook_worker(core: Core) -> WebhookWorker:
    """Calls merchants' webhooks."""
    return WebhookWorker(core.handler, core.adapters.webhook_sender, core.commands.sealed_secrets)


@dataclass(frozen=True)
class Work:
    """Jobs of one kind: the name of their queue, the reactor that creates them from events, and the
    worker that handles them.

    `backoff` has the pauses between attempts, in seconds. A job that fails once more becomes a dead
    letter. A process handles `concurrency` jobs at a time.
    """

    queue: str
    reactor: Callable[[Core, WorkQueue], Reactor]
    worker: Callable[[Core], JobWorker]
    backoff: Callable[[Settings], tuple[float, ...]]
    concurrency: Callable[[Settings], int]


PAYMENTS = Work(
    queue="ludoteca.payments",
    reactor=lambda core, queue: payment_jobs(core.handler, queue),
    worker=payment_worker,
    backoff=lambda settings: settings.payment_retry_seconds,
    concurrency=lambda settings: settings.workers,
)
MAIL = Work(
    queue="ludoteca.mail",
    reactor=lambda _, queue: notifications.notification_jobs(queue),
    worker=notification_worker,
    backoff=lambda settings: settings.notice_retry_seconds,
    concurrency=lambda _: 32,
)
FISCAL = Work(
    queue="ludoteca.fiscal",
    reactor=lambda core, queue: fiscal_receipts(core.handler, queue),
    worker=receipt_worker,
    backoff=lambda settings: settings.notice_retry_seconds,
    concurrency=lambda _: 32,
)
WEBHOOKS = Work(
    queue="ludoteca.webhooks",
    reactor=lambda _, queue: webhook_jobs(queue),
    worker=webhook_worker,
    backoff=lambda settings: settings.webhook_retry_seconds,
    concurrency=lambda _: 32,
)

WORK = (PAYMENTS, MAIL, FISCAL, WEBHOOKS)
"""All work done by jobs. Queues, reactors, workers, dead letters and metrics iterate over this
table."""


@asynccontextmanager
async def open_queues(core: Core) -> AsyncIterator[Queues]:
    """The work queues of this process: in RabbitMQ if it is configured, otherwise in PostgreSQL."""
    settings = core.settings
    rabbit = settings.rabbitmq_url.get_secret_value()
    if not rabbit:
        listener = JobListener(core.url)
        queues = {
            work.queue: PostgresQueue(
                core.log.pool,
                work.queue,
                backoff=work.backoff(settings),
                lease_seconds=LEASE_SECONDS,
                listener=listener,
            )
            for work in WORK
        }
        for queue in queues.values():
            core.log.history.when_it_changes(queue.forget)
        yield queues
        return
    connection: AbstractRobustConnection = await rabbitmq.connect(
        rabbit, trust=Trust(settings.tls_ca)
    )
    circuit = rabbitmq.rabbitmq_circuit()
    async with connection:
        yield {
            work.queue: rabbitmq.RabbitQueue(
                connection, work.queue, backoff=work.backoff(settings), circuit=circuit
            )
            for work in WORK
        }


# -- reactors --------------------------------------------------------------------------------------


def reactors_of(core: Core, queues: Queues) -> list[Reactor]:
    """All reactors: those that create jobs, and those that run commands themselves."""
    return [
        *(work.reactor(core, queues[work.queue]) for work in WORK),
        settlement(core.handler),
        Deposits(core.handler).reactor,
        core.commands.account_settling.reactor,
        stock_opened(core.handler),
        sku_claims(core.handler),
        Ledger(core.handler).reactor,
        library_grants(core.handler),
        notifications.notification_requests(core.handler, core.commands.mail_tokens),
        merchant_webhooks(core.handler),
        forgetting(core.log.keys),
        mailboxes_claimed(core.handler, core.commands.mailboxes),
    ]


# -- deadlines -------------------------------------------------------------------------------------


def deadlines_of(core: Core) -> DeadlineRunner:
    """The read model's deadlines, and the commands that handle them."""
    return DeadlineRunner(
        DueTimes(ReadModels(core.log.pool)), deadline_commands(core.commands), core.clock
    )


def deadline_commands(commands: Commands) -> dict[str, Fire]:
    """For each kind of deadline, the command that handles it when it is due."""
    return {
        ORDER_PAYMENT: lambda caller, order_id, once: commands.orders.expire(
            caller, order_id, once=once
        ),
        DEPOSIT_PAYMENT: lambda caller, payment_id, once: commands.transactions.expire_deposit(
            caller, payment_id, once=once
        ),
        CART: lambda caller, cart_id, once: commands.carts.expire(caller, cart_id, once=once),
        HOLD: lambda caller, stock_id, once: commands.inventory.expire(caller, stock_id, once=once),
        TRANSFER: lambda caller, transaction_id, _: commands.transactions.resume(
            caller, transaction_id
        ),
    }
