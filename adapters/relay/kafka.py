"""Publishes the log's events to Kafka, in the log's order per stream. The caller keeps the
checkpoint."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, ProducerFenced
from aiokafka.structs import RecordMetadata

from adapters.relay.cloudevents import to_headers
from adapters.relay.kafka_address import KafkaAddress
from eventstore.log import Envelope
from kit.tls import USUAL, Trust

CLOSE_SECONDS = 2.0

CHECK_SECONDS = 0.7
"""How long a broker may take to answer a check: less than readiness waits for it."""

_BATCH_BYTES = 128 << 10
"""A page is a few batches a partition, and each is a round trip."""

_LARGEST_REQUEST = 64 << 20
"""Bytes. More than any event: it is the broker that says what is too large."""


class KafkaMessage(NamedTuple):
    """One event for Kafka: a CloudEvent in binary mode, with its stream as the key."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


class KafkaPublisher:
    """Publishes each page in a transaction, by an idempotent producer.

    Messages of a stream have one key, hence one partition, and come in the log's order. Who reads
    committed messages only (`isolation.level=read_committed`) sees whole pages; others may also see
    the beginning of a page that failed, and then the page again.

    The transactional id is the topic's: a producer that connects fences the one before it, so that
    a relay that was replaced publishes nothing, whatever it had under way.
    """

    def __init__(
        self, url: str, topic: str, *, publish_seconds: float = 10, trust: Trust = USUAL
    ) -> None:
        """`topic` may contain `{context}`, the first word of an event's name, which is the same for
        all events of a stream. `publish_seconds` bounds the wait for a page's acknowledgement."""
        self._address = KafkaAddress.of(url)
        self._trust = trust
        self._topic = topic
        self._publish_seconds = publish_seconds
        self._producer: AIOKafkaProducer | None = None

    def message(self, env: Envelope, payload: bytes, epoch: str | None) -> KafkaMessage:
        """The message of an event. `payload` is the log's JSON."""
        return KafkaMessage(
            self._topic.replace("{context}", env.name.partition(".")[0]),
            str(env.stream_id).encode(),
            payload,
            to_headers(env, epoch),
        )

    async def connect(self) -> None:
        """Connect, and fence any earlier producer, unless that is done. Raises ConnectionError."""
        if self._producer is not None:
            return
        try:
            producer = self._new_producer()
        except OSError as error:
            raise ConnectionError(f"Kafka's certificates cannot be read: {error!r}") from error
        try:
            async with asyncio.timeout(self._publish_seconds):
                await producer.start()
        except (KafkaError, OSError) as error:  # TimeoutError is an OSError
            await _drop(producer)
            raise ConnectionError(f"no connection to Kafka: {error!r}") from error
        except BaseException:
            await _drop(producer)
            raise
        self._producer = producer

    def _new_producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **self._address.arguments(self._trust),
            client_id="ludoteca-relay",
            transactional_id=f"{self._topic}.relay",
            transaction_timeout_ms=int(2000 * self._publish_seconds),
            request_timeout_ms=int(1000 * self._publish_seconds),
            max_batch_size=_BATCH_BYTES,
            max_request_size=_LARGEST_REQUEST,
            enable_idempotence=True,
            acks="all",
        )

    async def publish(
        self, messages: Sequence[KafkaMessage], *, before: float = float("inf")
    ) -> None:
        """Publish a page in this order. Returns when all replicas in sync have it.

        Connects first if needed. Raises ConnectionError when that is not known of the whole page:
        publish it again. Publishes nothing after `before` (monotonic time).
        """
        await self.connect()
        if monotonic() > before:
            raise ConnectionError("too late to publish")
        assert self._producer is not None
        if not messages:
            return
        try:
            async with asyncio.timeout(self._publish_seconds):
                await _publish(self._producer, messages)
        except (KafkaError, OSError) as error:
            await self.close()
            raise ConnectionError(f"Kafka did not acknowledge a page: {_said(error)}") from error
        except BaseException:
            await self.close()  # nothing of this page may be in flight when it is repeated
            raise

    async def close(self) -> None:
        """Close the connection; `publish` or `connect` opens another."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _drop(producer)


async def check_kafka(url: str, trust: Trust = USUAL) -> None:
    """Raises KafkaError or OSError unless a broker lets us in and answers."""
    client = AIOKafkaClient(
        **KafkaAddress.of(url).arguments(trust),
        client_id="ludoteca-readiness",
        request_timeout_ms=int(1000 * CHECK_SECONDS),
    )
    try:
        await client.bootstrap()
    finally:
        await client.close()


async def _publish(producer: AIOKafkaProducer, messages: Sequence[KafkaMessage]) -> None:
    await producer.begin_transaction()
    sent: list[asyncio.Future[RecordMetadata]] = []
    try:
        for each in messages:
            sent.append(
                await producer.send(each.topic, each.value, key=each.key, headers=each.headers)
            )
    except BaseException:
        for future in sent:
            future.cancel()  # nobody will ask for its outcome
        raise
    outcomes = await asyncio.gather(*sent, return_exceptions=True)
    for message, outcome in zip(messages, outcomes, strict=True):
        if isinstance(outcome, MessageSizeTooLargeError):
            raise MessageSizeTooLargeError(_too_large(message)) from outcome
        if isinstance(outcome, BaseException):
            raise outcome
    await producer.commit_transaction()


def _too_large(message: KafkaMessage) -> str:
    event = dict(message.headers)
    return (
        f"event {event['ce_id'].decode()} at position {event['ce_position'].decode()} has"
        f" {len(message.value)} bytes, more than topic {message.topic} takes: raise its"
        " max.message.bytes (or the brokers' message.max.bytes)"
    )


def _said(error: BaseException) -> str:
    if isinstance(error, ProducerFenced):
        return "another relay connected with this topic's transactional id"
    return str(error) or type(error).__name__


async def _drop(producer: AIOKafkaProducer) -> None:
    """Close it, whatever its state: what it has not sent is published again by another."""
    for close in (producer.stop, producer.client.close):
        with suppress(TimeoutError, OSError, KafkaError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await close()
    if (sender := producer._sender.sender_task) is not None:
        sender.cancel()  # it goes on trying when the broker hung and `stop` was cut short
