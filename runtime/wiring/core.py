"""The composition root: by the settings, which adapters a process works with. Processes open what they need here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import aio_pika.abc

from adapters.passwords import Argon2Hasher
from adapters.queues import rabbitmq
from adapters.queues.postgres import PostgresQueue
from api.tokens import ACCESS_LIFETIME, Tokens
from commands.accounts.mail_tokens import MailTokens
from commands.accounts.mailboxes import Mailboxes, mailboxes_claimed
from commands.catalog import sku_claims
from commands.client_secrets import ClientSecrets
from commands.deadlines import Fire
from commands.handler import CommandBus
from commands.ports.queue import WorkQueue
from commands.ports.secrets import PasswordHasher
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
from commands.shop_rules import ShopRules
from commands.workers.notifications import NoticeWorker
from commands.workers.payments import PaymentWorker
from commands.workers.receipts import ReceiptWorker, fiscal_receipts
from commands.workers.webhooks import WebhookWorker
from eventstore.clock_watch import ClockWatch
from eventstore.consumers.stream_watcher import StreamFollower
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from eventstore.snapshots import Snapshots
from kit.clock import SYSTEM_CLOCK, Clock
from projections.models.deadlines import CART, DEPOSIT_PAYMENT, HOLD, ORDER_PAYMENT, TRANSFER
from runtime.instance import database_url
from runtime.settings import Settings
from runtime.wiring.adapters import Adapters
from runtime.wiring.codec import codec
from runtime.wiring.secrets import Secrets, read_secrets

PAYMENTS, MAIL, FISCAL = "ludoteca.payments", "ludoteca.mail", "ludoteca.fiscal"
WEBHOOKS = "ludoteca.webhooks"
ISSUER = AUDIENCE = "ludoteca"

LEASE_SECONDS = 10
"""How long the jobs of a worker that was killed wait for another. A job done twice does no harm."""


@dataclass
class Core:
    """The log, and the commands over it, as one process has them."""

    settings: Settings
    url: str
    clock: Clock
    log: PostgresLog
    clock_watch: ClockWatch
    repository: Repository
    bus: CommandBus
    secrets: Secrets
    stack: AsyncExitStack
    adapters: Adapters
    commands: Commands

    @cached_property
    def tokens(self) -> Tokens:
        return Tokens(self.secrets.signing_key, ISSUER, AUDIENCE, self.clock)

    @property
    def deadline_commands(self) -> dict[str, Fire]:
        """What is done about each kind of deadline that is due."""
        return {
            ORDER_PAYMENT: lambda caller, order_id, once: self.commands.orders.expire(caller, order_id, once=once),
            DEPOSIT_PAYMENT: lambda caller, payment_id, once: self.commands.transactions.expire_deposit(
                caller, payment_id, once=once
            ),
            CART: lambda caller, cart_id, once: self.commands.carts.expire(caller, cart_id, once=once),
            HOLD: lambda caller, stock_id, once: self.commands.inventory.expire(caller, stock_id, once=once),
            TRANSFER: lambda caller, transaction_id, _: self.commands.transactions.resume(caller, transaction_id),
        }

    def payment_worker(self) -> PaymentWorker:
        adapters = self.adapters
        secrets = self.commands.client_secrets
        return PaymentWorker(self.bus, adapters.payment_provider, secrets, adapters.payment_worker_log)

    def notice_worker(self) -> NoticeWorker:
        return NoticeWorker(self.bus, {"email": self.adapters.mailer, "push": self.adapters.pusher})

    def receipt_worker(self) -> ReceiptWorker:
        return ReceiptWorker(self.bus, self.adapters.fiscal_operator)

    def webhook_worker(self) -> WebhookWorker:
        return WebhookWorker(self.bus, self.adapters.webhook_sender, self.commands.client_secrets)

    def reactors(self, queues: "Queues") -> list[Reactor]:
        return [
            payment_jobs(self.bus, queues.payments),
            settlement(self.bus),
            Deposits(self.bus).reactor,
            self.commands.account_settling.reactor,
            stock_opened(self.bus),
            sku_claims(self.bus),
            Ledger(self.bus).reactor,
            library_grants(self.bus),
            notifications.people_told(self.bus, self.commands.mail_tokens),
            notifications.notice_jobs(queues.mail),
            fiscal_receipts(self.bus, queues.fiscal),
            merchant_webhooks(self.bus),
            webhook_jobs(queues.webhooks),
            forgetting(self.log.keys),
            mailboxes_claimed(self.bus, self.commands.mailboxes),
        ]


@dataclass(frozen=True)
class Queues:
    """The work queues: on RabbitMQ where one is set, else in PostgreSQL."""

    payments: WorkQueue
    mail: WorkQueue
    fiscal: WorkQueue
    webhooks: WorkQueue

    @property
    def all(self) -> tuple[WorkQueue, ...]:
        return (self.payments, self.mail, self.fiscal, self.webhooks)


@asynccontextmanager
async def open_core(
    settings: Settings, *, clock: Clock | None = None, hasher: PasswordHasher | None = None, watched: bool = False
) -> AsyncIterator[Core]:
    """Open the log and what stands on it; the database must be migrated. Closes everything at the end.

    A `clock` of one's own may differ from the database's as it likes. `watched`: see `PostgresLog.open`.
    """
    url = database_url(settings)
    tolerance = timedelta(seconds=settings.clock_tolerance_seconds) if clock is None else None
    clock = clock or SYSTEM_CLOCK
    async with AsyncExitStack() as stack:
        opening = PostgresLog.open(
            url, codec(), pool_size=settings.pool_size, clock=clock, clock_tolerance=tolerance, watched=watched
        )
        log = await stack.enter_async_context(opening)
        repository = Repository(log, Snapshots(log.pool))
        follower = StreamFollower(log)
        stack.push_async_callback(follower.close)
        bus = CommandBus(repository, clock)
        secrets = await read_secrets(settings, log.pool)
        watch = await _watched(stack, log, clock, tolerance)
        adapters = Adapters(settings, secrets, log, stack, hasher or Argon2Hasher())
        commands = Commands(
            bus=bus,
            log=log,
            follower=follower,
            rules=rules_of(settings),
            ports=adapters,
            mailboxes=Mailboxes(repository, secrets.pepper),
            mail_tokens=MailTokens(secrets.mail),
            client_secrets=ClientSecrets(secrets.client_secrets),
            access_lifetime=ACCESS_LIFETIME,
            stack=stack,
        )
        yield Core(settings, url, clock, log, watch, repository, bus, secrets, stack, adapters, commands)


def rules_of(settings: Settings) -> ShopRules:
    """The rules that the operator has set."""
    return ShopRules(
        payment_ttl=timedelta(seconds=settings.payment_ttl_seconds),
        cart_ttl=timedelta(seconds=settings.cart_ttl_seconds),
        cart_max=timedelta(seconds=settings.cart_max_seconds),
        cart_max_quantity=settings.cart_max_quantity,
        allocation_ttl=timedelta(seconds=settings.allocation_ttl_seconds),
        fee_bps=settings.platform_fee_bps,
        low_stock=settings.low_stock,
    )


async def _watched(stack: AsyncExitStack, log: PostgresLog, clock: Clock, tolerance: timedelta | None) -> ClockWatch:
    """The watch over this process's clock; a clock that somebody moves by hand is let move."""
    watch = ClockWatch(log.pool, clock, tolerance)
    if tolerance is not None:
        task = asyncio.create_task(watch.run(), name="clock-watch")

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        stack.push_async_callback(end)
    return watch


@asynccontextmanager
async def open_queues(core: Core) -> AsyncIterator[Queues]:
    """The work queues of this process."""
    backoff, notice_backoff = core.settings.payment_retry_seconds, core.settings.notice_retry_seconds
    webhook_backoff = core.settings.webhook_retry_seconds
    rabbit = core.settings.rabbitmq_url.get_secret_value()
    if not rabbit:
        backoffs = {PAYMENTS: backoff, MAIL: notice_backoff, FISCAL: notice_backoff, WEBHOOKS: webhook_backoff}
        queues = [
            PostgresQueue(core.log.pool, name, backoff=pauses, lease_seconds=LEASE_SECONDS)
            for name, pauses in backoffs.items()
        ]
        for queue in queues:
            core.log.history.when_it_changes(queue.forget)
        yield Queues(*queues)
        return
    connection: aio_pika.abc.AbstractRobustConnection = await rabbitmq.connect(rabbit)
    circuit = rabbitmq.rabbitmq_circuit()
    async with connection:
        yield Queues(
            rabbitmq.RabbitQueue(connection, PAYMENTS, backoff=backoff, circuit=circuit),
            rabbitmq.RabbitQueue(connection, MAIL, backoff=notice_backoff, circuit=circuit),
            rabbitmq.RabbitQueue(connection, FISCAL, backoff=notice_backoff, circuit=circuit),
            rabbitmq.RabbitQueue(connection, WEBHOOKS, backoff=webhook_backoff, circuit=circuit),
        )
