"""The composition root: by the settings, which adapters a process works with. Processes open what they need here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from os import urandom

import aio_pika.abc
from pydantic import SecretStr

from adapters.fiscal.client import HttpFiscalOperator
from adapters.images.fetcher import HttpImageFetcher
from adapters.images.folder import ImageFolder
from adapters.notifications.mail_files import MailFiles
from adapters.notifications.push import PushFiles, PushGateway
from adapters.notifications.smtp import SmtpMailer
from adapters.passwords import Argon2Hasher
from adapters.payments.simulated import SimulatedProvider
from adapters.postgres.sessions import PostgresSessions
from adapters.queues import rabbitmq
from adapters.queues.postgres import PostgresQueue
from adapters.text_log import FileTextLog
from adapters.webhooks.sender import HttpWebhookSender
from adapters.webhooks.signature import Verifier
from api.tokens import ACCESS_LIFETIME, Tokens, new_private_key
from commands.accounts.account_ends import AccountEnds
from commands.accounts.belongings import Belongings
from commands.accounts.identity import Accounts
from commands.accounts.logins import Logins
from commands.accounts.mail_proofs import MailProofs
from commands.accounts.mail_tokens import MailTokens
from commands.accounts.mailboxes import Mailboxes, mailboxes_claimed
from commands.accounts.session_ends import SessionEnds
from commands.carts import Carts
from commands.catalog import Catalog, sku_claims
from commands.client_secrets import ClientSecrets
from commands.deadlines import Fire
from commands.handler import CommandBus
from commands.images import Images
from commands.inventory import Inventory
from commands.orders import Orders
from commands.payments import Payments
from commands.ports.images import ImageStore
from commands.ports.notifications import Carrier
from commands.ports.payments import PaymentProvider
from commands.ports.queue import WorkQueue
from commands.ports.secrets import PasswordHasher
from commands.reactors import notifications
from commands.reactors.account_settling import AccountSettling
from commands.reactors.deposits import Deposits
from commands.reactors.forgetting import forgetting
from commands.reactors.ledger import Ledger
from commands.reactors.library_grants import library_grants
from commands.reactors.payment_jobs import payment_jobs
from commands.reactors.reactor import Reactor
from commands.reactors.settlement import settlement
from commands.reactors.stock_opened import stock_opened
from commands.reactors.webhooks import merchant_webhooks, webhook_jobs
from commands.shipments import Shipments
from commands.shop_rules import ShopRules
from commands.transactions import Transactions
from commands.wallets import Wallets
from commands.webhook_endpoints import WebhookEndpoints
from commands.workers.notifications import NoticeWorker
from commands.workers.payments import PaymentWorker
from commands.workers.receipts import ReceiptWorker, fiscal_receipts
from commands.workers.webhooks import WebhookWorker
from eventstore.clock_watch import ClockWatch
from eventstore.consumers.stream_watcher import StreamFollower
from eventstore.keys import secret
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from eventstore.snapshots import Snapshots
from kit.clock import SYSTEM_CLOCK, Clock
from projections.models.deadlines import CART, DEPOSIT_PAYMENT, HOLD, ORDER_PAYMENT, TRANSFER
from queries.read_models import ReadModels
from runtime.belongings import ReadBelongings
from runtime.instance import database_url
from runtime.settings import Settings
from runtime.wiring.codec import codec

PAYMENTS, MAIL, FISCAL = "ludoteca.payments", "ludoteca.mail", "ludoteca.fiscal"
WEBHOOKS = "ludoteca.webhooks"
ISSUER = AUDIENCE = "ludoteca"

LEASE_SECONDS = 10
"""How long the jobs of a worker that was killed wait for another. A job done twice does no harm."""


@dataclass(frozen=True)
class Secrets:
    """The program's own secrets, shared by all its processes through the database."""

    pepper: bytes
    mail: bytes
    signing_key: bytes
    fingerprints: bytes
    client_secrets: bytes
    webhook: tuple[str, ...]
    carrier: tuple[str, ...]
    provider_key: str
    fiscal_key: str


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
    follower: StreamFollower
    secrets: Secrets
    stack: AsyncExitStack
    hasher: PasswordHasher

    @cached_property
    def mail_tokens(self) -> MailTokens:
        return MailTokens(self.secrets.mail)

    @cached_property
    def tokens(self) -> Tokens:
        return Tokens(self.secrets.signing_key, ISSUER, AUDIENCE, self.clock)

    @cached_property
    def mailboxes(self) -> Mailboxes:
        return Mailboxes(self.repository, self.secrets.pepper)

    @cached_property
    def accounts(self) -> Accounts:
        return Accounts(self.bus, self.log.keys, self.hasher, self.mailboxes, self.mail_tokens)

    @cached_property
    def logins(self) -> Logins:
        return Logins(self.bus, self.mailboxes, self.hasher, PostgresSessions(self.log.pool))

    @cached_property
    def mail_proofs(self) -> MailProofs:
        return MailProofs(self.bus, self.mailboxes, self.hasher, self.mail_tokens)

    @cached_property
    def session_ends(self) -> SessionEnds:
        ends = SessionEnds(self.log, self.repository, PostgresSessions(self.log.pool), ACCESS_LIFETIME)
        self.stack.push_async_callback(ends.close)
        return ends

    @cached_property
    def belongings(self) -> Belongings:
        return ReadBelongings(ReadModels(self.log.pool))

    @cached_property
    def account_settling(self) -> AccountSettling:
        return AccountSettling(self.bus, self.belongings)

    @cached_property
    def account_ends(self) -> AccountEnds:
        return AccountEnds(self.bus, self.belongings, self.account_settling, self.mailboxes, self.log.keys)

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog(self.bus)

    @cached_property
    def images(self) -> Images:
        from adapters.images.pillow import PillowImages  # slow to import, and only the API needs it

        maker, fetcher = PillowImages(), HttpImageFetcher()
        self.stack.callback(maker.close)
        self.stack.push_async_callback(fetcher.aclose)
        return Images(self._image_store(), maker, fetcher)

    def _image_store(self) -> ImageStore:
        url = self.settings.images_url
        if not url:
            return ImageFolder(self.settings.home / "images")
        from adapters.images.s3 import ImageBucket  # of the extra `s3`

        bucket = ImageBucket(url)
        self.stack.callback(bucket.close)
        return bucket

    @cached_property
    def rules(self) -> ShopRules:
        settings = self.settings
        return ShopRules(
            payment_ttl=timedelta(seconds=settings.payment_ttl_seconds),
            cart_ttl=timedelta(seconds=settings.cart_ttl_seconds),
            cart_max=timedelta(seconds=settings.cart_max_seconds),
            cart_max_quantity=settings.cart_max_quantity,
            allocation_ttl=timedelta(seconds=settings.allocation_ttl_seconds),
            fee_bps=settings.platform_fee_bps,
            low_stock=settings.low_stock,
        )

    @cached_property
    def orders(self) -> Orders:
        return Orders(self.bus, self.follower, self.rules)

    @cached_property
    def wallets(self) -> Wallets:
        return Wallets(self.bus)

    @cached_property
    def transactions(self) -> Transactions:
        transactions = Transactions(self.bus, self.follower, self.rules)
        self.stack.push_async_callback(transactions.close)
        return transactions

    @cached_property
    def inventory(self) -> Inventory:
        return Inventory(self.bus, self.rules)

    @cached_property
    def carts(self) -> Carts:
        return Carts(self.bus, self.rules)

    @cached_property
    def shipments(self) -> Shipments:
        return Shipments(self.bus, Verifier(self.secrets.carrier))

    @property
    def deadline_commands(self) -> dict[str, Fire]:
        """What is done about each kind of deadline that is due."""
        return {
            ORDER_PAYMENT: lambda caller, order_id, once: self.orders.expire(caller, order_id, once=once),
            DEPOSIT_PAYMENT: lambda caller, payment_id, once: self.transactions.expire_deposit(
                caller, payment_id, once=once
            ),
            CART: lambda caller, cart_id, once: self.carts.expire(caller, cart_id, once=once),
            HOLD: lambda caller, stock_id, once: self.inventory.expire(caller, stock_id, once=once),
            TRANSFER: lambda caller, transaction_id, _: self.transactions.resume(caller, transaction_id),
        }

    @cached_property
    def provider(self) -> PaymentProvider:
        settings, secrets = self.settings, self.secrets.webhook
        if settings.payment_provider == "stripe":
            from adapters.payments.stripe import StripeProvider  # slow to import

            stripe = StripeProvider(
                settings.stripe_api_key.get_secret_value(),
                secrets,
                api_base=settings.stripe_api_base,
                return_url=settings.payment_return_url,
                timeout_seconds=settings.payment_timeout_seconds,
            )
            self.stack.push_async_callback(stripe.aclose)
            return stripe
        simulated = SimulatedProvider(
            settings.provider_address,
            secrets,
            settings.payment_timeout_seconds,
            public_url=settings.provider_public_url,
            key=self.secrets.provider_key,
        )
        self.stack.push_async_callback(simulated.aclose)
        return simulated

    @cached_property
    def payments(self) -> Payments:
        secrets = ClientSecrets(self.secrets.client_secrets)
        return Payments(self.bus, self.provider, secrets, self.text_log("payment-webhook.txt"))

    def text_log(self, name: str) -> FileTextLog:
        log = FileTextLog(self.settings.home / "logs" / name)
        self.stack.callback(log.close)
        return log

    def payment_worker(self) -> PaymentWorker:
        secrets = ClientSecrets(self.secrets.client_secrets)
        return PaymentWorker(self.bus, self.provider, secrets, self.text_log("payment-worker.txt"))

    def notice_worker(self) -> NoticeWorker:
        return NoticeWorker(self.bus, {"email": self._mailer(), "push": self._pusher()})

    def _mailer(self) -> Carrier:
        url = self.settings.smtp_url.get_secret_value()
        return SmtpMailer(url, self.settings.mail_from) if url else MailFiles(self.settings.home / "mail")

    def _pusher(self) -> Carrier:
        url = self.settings.push_url.get_secret_value()
        if not url:
            return PushFiles(self.settings.home / "push")
        gateway = PushGateway(url)
        self.stack.push_async_callback(gateway.aclose)
        return gateway

    @cached_property
    def fiscal_operator(self) -> HttpFiscalOperator:
        settings, key = self.settings, self.secrets.fiscal_key
        operator = HttpFiscalOperator(settings.fiscal_address, settings.payment_timeout_seconds, key=key)
        self.stack.push_async_callback(operator.aclose)
        return operator

    def receipt_worker(self) -> ReceiptWorker:
        return ReceiptWorker(self.bus, self.fiscal_operator)

    @cached_property
    def webhook_sender(self) -> HttpWebhookSender:
        sender = HttpWebhookSender(private=self.settings.webhook_private)
        self.stack.push_async_callback(sender.aclose)
        return sender

    @cached_property
    def webhook_endpoints(self) -> WebhookEndpoints:
        secrets = ClientSecrets(self.secrets.client_secrets)
        return WebhookEndpoints(self.bus, self.webhook_sender, secrets)

    def webhook_worker(self) -> WebhookWorker:
        secrets = ClientSecrets(self.secrets.client_secrets)
        return WebhookWorker(self.bus, self.webhook_sender, secrets)

    def reactors(self, queues: "Queues") -> list[Reactor]:
        return [
            payment_jobs(self.bus, queues.payments),
            settlement(self.bus),
            Deposits(self.bus).reactor,
            self.account_settling.reactor,
            stock_opened(self.bus),
            sku_claims(self.bus),
            Ledger(self.bus).reactor,
            library_grants(self.bus),
            notifications.people_told(self.bus, self.mail_tokens),
            notifications.notice_jobs(queues.mail),
            fiscal_receipts(self.bus, queues.fiscal),
            merchant_webhooks(self.bus),
            webhook_jobs(queues.webhooks),
            forgetting(self.log.keys),
            mailboxes_claimed(self.bus, self.mailboxes),
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
        secrets = await _secrets(settings, log)
        watch = await _watched(stack, log, clock, tolerance)
        hasher = hasher or Argon2Hasher()
        yield Core(settings, url, clock, log, watch, repository, bus, follower, secrets, stack, hasher)


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


async def _secrets(settings: Settings, log: PostgresLog) -> Secrets:
    return Secrets(
        pepper=await secret(log.pool, "email_pepper", lambda: urandom(32)),
        mail=await secret(log.pool, "mail_tokens", lambda: urandom(32)),
        signing_key=await secret(log.pool, "access_tokens", new_private_key),
        fingerprints=await secret(log.pool, "request_fingerprints", lambda: urandom(32)),
        client_secrets=await secret(log.pool, "client_secrets", lambda: urandom(32)),
        webhook=await _shared(log, "payment_webhook", settings.payment_webhook_secrets),
        carrier=await _shared(log, "carrier_webhook", settings.carrier_webhook_secrets),
        provider_key=await _key(log, "provider_api", settings.provider_key),
        fiscal_key=await _key(log, "fiscal_api", settings.fiscal_key),
    )


async def _key(log: PostgresLog, name: str, given: SecretStr) -> str:
    """The key of an API that our own processes call: the one that was set, or one that is made and kept."""
    made = await secret(log.pool, name, lambda: b"sk_" + urandom(24).hex().encode())
    return given.get_secret_value() or made.decode()


async def _shared(log: PostgresLog, name: str, given: tuple[SecretStr, ...]) -> tuple[str, ...]:
    """The secrets shared with whoever calls a webhook of ours: those that were set, or one that is made and kept."""
    made = await secret(log.pool, name, lambda: b"whsec_" + urandom(24).hex().encode())
    return tuple(each.get_secret_value() for each in given) or (made.decode(),)


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
