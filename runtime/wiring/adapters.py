"""The adapters. The settings choose each of them; it is opened on first use, and closed with the
process."""

from collections.abc import Collection
from contextlib import AsyncExitStack
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from adapters.fiscal.client import HttpFiscalOperator
from adapters.images.fetcher import HttpImageFetcher
from adapters.images.folder import ImageFolder
from adapters.notifications.folder import delete_of, delete_older, notifications_in
from adapters.notifications.mail_files import MailFiles
from adapters.notifications.push import PushFiles, PushGateway
from adapters.notifications.smtp import SmtpMailer
from adapters.payments.simulated import SimulatedProvider
from adapters.postgres.sessions import PostgresSessions
from adapters.relay.rabbitmq import RabbitPublisher
from adapters.text_log import FileTextLog
from adapters.webhooks.sender import HttpWebhookSender
from adapters.webhooks.signature import SignatureVerifier
from adapters.witness.client import HttpWitness
from commands.accounts.belongings import Belongings
from commands.ports.images import ImageMaker, ImageStore
from commands.ports.notifications import MessageTransport
from commands.ports.payments import PaymentProvider
from commands.ports.secrets import PasswordHasher
from eventstore.postgres_log import PostgresLog
from eventstore.proofs.witness import Witness
from kit.tls import Trust
from queries.engine.read_models import ReadModels
from runtime.settings import Settings
from runtime.wiring.belongings import ReadBelongings
from runtime.wiring.secrets import Secrets

if TYPE_CHECKING:
    from adapters.relay.kafka import KafkaPublisher


MAIL, PUSH = "mail", "push"
"""The folders of HOME for messages, where there is no server for them."""


class Adapters:
    """Implements `commands.services.Ports`, and has what the workers need besides. `stack` closes
    it."""

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        log: PostgresLog,
        stack: AsyncExitStack,
        hasher: PasswordHasher,
    ) -> None:
        self._settings = settings
        self._secrets = secrets
        self._log = log
        self._stack = stack
        self._trust = Trust(settings.tls_ca)
        self.hasher = hasher

    @cached_property
    def belongings(self) -> Belongings:
        return ReadBelongings(ReadModels(self._log.pool))

    @cached_property
    def sessions(self) -> PostgresSessions:
        return PostgresSessions(self._log.pool)

    @cached_property
    def carrier_signatures(self) -> SignatureVerifier:
        return SignatureVerifier(self._secrets.carrier)

    @cached_property
    def image_maker(self) -> ImageMaker:
        from adapters.images.pillow import PillowImages  # slow to import, and only the API needs it

        maker = PillowImages()
        self._stack.callback(maker.close)
        return maker

    @cached_property
    def image_fetcher(self) -> HttpImageFetcher:
        fetcher = HttpImageFetcher(tls=self._trust.context)
        self._stack.push_async_callback(fetcher.aclose)
        return fetcher

    @cached_property
    def image_store(self) -> ImageStore:
        url = self._settings.images_url
        if not url:
            return ImageFolder(self._settings.home / "images")
        from adapters.images.s3 import ImageBucket  # of the extra `s3`

        bucket = ImageBucket(url, self._trust)
        self._stack.callback(bucket.close)
        return bucket

    @cached_property
    def payment_provider(self) -> PaymentProvider:
        settings, secrets = self._settings, self._secrets
        if settings.payment_provider == "stripe":
            from adapters.payments.stripe import StripeProvider  # slow to import

            stripe = StripeProvider(
                settings.stripe_api_key.get_secret_value(),
                secrets.webhook,
                api_base=settings.stripe_api_base,
                return_url=settings.payment_return_url,
                timeout_seconds=settings.payment_timeout_seconds,
                trust=self._trust,
            )
            self._stack.push_async_callback(stripe.aclose)
            return stripe
        simulated = SimulatedProvider(
            settings.provider_address,
            secrets.webhook,
            settings.payment_timeout_seconds,
            public_url=settings.provider_public_url,
            key=secrets.provider_key,
            tls=self._trust.context,
        )
        self._stack.push_async_callback(simulated.aclose)
        return simulated

    @cached_property
    def payment_webhook_log(self) -> FileTextLog:
        return self._text_log("payment-webhook.txt")

    @cached_property
    def payment_worker_log(self) -> FileTextLog:
        return self._text_log("payment-worker.txt")

    def _text_log(self, name: str) -> FileTextLog:
        text_log = FileTextLog(self._settings.home / "logs" / name)
        self._stack.callback(text_log.close)
        return text_log

    @cached_property
    def mailer(self) -> MessageTransport:
        settings = self._settings
        url = settings.smtp_url.get_secret_value()
        if not url:
            return MailFiles(settings.home / MAIL)
        return SmtpMailer(url, settings.mail_from, tls_context=self._trust.context)

    @cached_property
    def pusher(self) -> MessageTransport:
        url = self._settings.push_url.get_secret_value()
        if not url:
            return PushFiles(self._settings.home / PUSH)
        gateway = PushGateway(url, tls=self._trust.context)
        self._stack.push_async_callback(gateway.aclose)
        return gateway

    def delete_message_files(self, before: datetime) -> int:
        """Delete the mails and push notifications that were written as files before this time.
        Returns their number."""
        return sum(delete_older(folder, before) for folder in self._message_folders)

    def messages_in_files(self) -> set[UUID]:
        """The ids of the notifications of which there are files here."""
        return {each for folder in self._message_folders for each in notifications_in(folder)}

    def delete_messages_of(self, notification_ids: Collection[UUID]) -> int:
        """Delete the files of these notifications. Returns their number."""
        return sum(delete_of(folder, notification_ids) for folder in self._message_folders)

    @property
    def _message_folders(self) -> list[Path]:
        return [self._settings.home / name for name in (MAIL, PUSH)]

    @cached_property
    def fiscal_operator(self) -> HttpFiscalOperator:
        settings = self._settings
        key = self._secrets.fiscal_key
        operator = HttpFiscalOperator(
            settings.fiscal_address,
            settings.payment_timeout_seconds,
            key=key,
            tls=self._trust.context,
        )
        self._stack.push_async_callback(operator.aclose)
        return operator

    @cached_property
    def witness(self) -> Witness | None:
        url = self._settings.witness_url.get_secret_value()
        return HttpWitness(url, tls=self._trust.context) if url else None

    @cached_property
    def webhook_sender(self) -> HttpWebhookSender:
        sender = HttpWebhookSender(private=self._settings.webhook_private, tls=self._trust.context)
        self._stack.push_async_callback(sender.aclose)
        return sender


def rabbitmq_bus(settings: Settings) -> RabbitPublisher | None:
    """The event bus in RabbitMQ to which the relay publishes the log, if there is one. The caller
    closes it."""
    url = settings.rabbitmq_url.get_secret_value()
    return RabbitPublisher(url, trust=Trust(settings.tls_ca)) if url else None


def kafka_bus(settings: Settings) -> "KafkaPublisher | None":
    """The event bus in Kafka, if there is one. The caller closes it."""
    url = settings.kafka_url.get_secret_value()
    if not url:
        return None
    from adapters.relay.kafka import KafkaPublisher  # of the extra `kafka`

    return KafkaPublisher(url, settings.kafka_topic, trust=Trust(settings.tls_ca))
