"""The work queue on RabbitMQ: quorum queues, and publisher confirms for whatever moves between them.

    work  <name>                 a failed job is published to a retry queue, or to the dead, and only then acknowledged
    retry <name>.retry.<ms>      one for each wait, because a TTL within one queue blocks at its head; expires into work
    dead  <name>.dlq             through the exchange `ludoteca.dlx`

RabbitMQ does not know a job's id: published twice, it is delivered twice, and the handler's idempotency makes it one.
Every start counts as an attempt, so that a job whose worker dies each time ends among the dead too.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from uuid import NAMESPACE_OID, UUID, uuid5

import aio_pika
import msgspec
import structlog
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractRobustConnection, HeadersType
from aio_pika.connection import make_url
from aio_pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelInvalidStateError,
    ChannelPreconditionFailed,
    PublishError,
)
from aio_pika.robust_connection import RobustConnection
from pamqp.common import Arguments, FieldValue

from adapters.queues.attempts import BACKOFF, POSTPONED, MakeAttempt, attempt
from commands.ports.queue import DeadLetter, Job, JobHandler
from kit.cancellation import stop_if_cancelled
from kit.circuit import Circuit, CircuitOpen

DEAD_LETTER_EXCHANGE = "ludoteca.dlx"
ATTEMPT_HEADER = "x-ludoteca-attempt"
ERROR_HEADER = "x-ludoteca-error"

_DELIVERY_LIMIT = 20
"""The broker's own end of a job that kills its worker before its attempt can be counted. Not derived from the backoff:
a queue's arguments cannot be changed once it is there, the backoff is a setting."""

_LOOKS = 2**31 - 1
"""Delivery limit of the dead: each look counts as one. Without a limit RabbitMQ 4 would set 20 and drop what was looked
at more often, and what is put back goes to the queue's end."""

_KEPT_IN_ORDER = 1000
"""How many dead keep their order through a look at some of them: what is put back goes behind what was put back before,
so all must be taken and put back together."""

HEARTBEAT_SECONDS = 4
"""Each end gives a connection up over which it has heard nothing for two to three times as long."""

ANSWER_SECONDS = 0.8
"""How long the broker may take to answer a look at a queue, or a job put back to work."""

_PUBLISH_AT_ONCE = 500
_LOST_CONNECTION = (AMQPError, ChannelInvalidStateError, OSError)
_NO_ANSWER = (AMQPConnectionError, ChannelInvalidStateError, OSError)  # of which a timeout is one

_log = structlog.get_logger(__name__)


async def connect(url: str, *, reconnect_seconds: float = 1) -> AbstractRobustConnection:
    """Connect to the broker. Where it is away, now or later, the connection comes about by itself once it is back."""
    connection = RobustConnection(
        make_url(url, reconnect_interval=reconnect_seconds, fail_fast=False, heartbeat=HEARTBEAT_SECONDS),
        client_properties={"connection_name": "ludoteca"},
    )
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await connection.connect()
    except TimeoutError:
        _log.warning("RabbitMQ does not answer yet")
    except BaseException:
        await connection.close()
        raise
    return connection


def rabbitmq_circuit() -> Circuit:
    """A circuit for one broker."""
    return Circuit("rabbitmq", lambda error: isinstance(error, _NO_ANSWER))


class RabbitQueue:
    """Fulfils `WorkQueue`. Declares what it needs on first use; the connection stays its owner's to close."""

    def __init__(
        self,
        connection: AbstractRobustConnection,
        name: str = "ludoteca.payments",
        *,
        backoff: Sequence[float] = BACKOFF,
        publish_seconds: float = 30,
        circuit: Circuit | None = None,
    ) -> None:
        """`backoff`: seconds to wait after each failed attempt but the last; `publish_seconds`: how long to try to
        publish. Queues of one broker share a `circuit`: what one has found, all know."""
        self.name = name
        self.backoff = tuple(backoff)
        self.publish_seconds = publish_seconds
        self._connection, self._circuit = connection, circuit or rabbitmq_circuit()
        self._channel: AbstractChannel | None = None
        self._opening = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._working = 0

    @property
    def max_attempts(self) -> int:
        """How often a job is tried before it is dead."""
        return len(self.backoff) + 1

    async def publish(self, jobs: Sequence[Job]) -> None:
        """Returns when a majority of the brokers has written the jobs down.

        A lost connection is waited for, and what was not confirmed is sent again. Raises TimeoutError when the broker
        stays away, PublishError when the queue has been removed.
        """
        for start in range(0, len(jobs), _PUBLISH_AT_ONCE):
            await self._send([_message(job) for job in jobs[start : start + _PUBLISH_AT_ONCE]], "", self.name)

    async def consume(self, handler: JobHandler, *, concurrency: int = 4, lost: JobHandler | None = None) -> None:
        """Hand jobs to the handler until cancelled, `concurrency` at a time; what is not done then goes back.

        A lost connection is waited for; what was being worked on is then delivered again.
        """
        make_attempt = partial(attempt, most=self.max_attempts, handler=handler, lost=lost)
        while True:
            try:
                await self._serve(make_attempt, concurrency)
            except _LOST_CONNECTION as error:
                _log.warning("work queue lost its broker", queue=self.name, error=str(error))
                await asyncio.sleep(1)

    async def depth(self) -> int:
        """Jobs that wait, for work or for a retry, or are being worked on here: the broker does not tell what other
        processes hold. Raises AMQPConnectionError when it does not answer."""
        async with self._answering():
            return await self._waiting(self.name, *map(self._retry_name, set(self.backoff))) + self._working

    async def dead(self) -> int:
        """How many wait among the dead. Raises AMQPConnectionError when the broker does not answer."""
        async with self._answering():
            return await self._waiting(self._dead_name)

    async def _waiting(self, *queues: str) -> int:
        channel = await (await self._open()).get_underlay_channel()
        return sum([(await channel.queue_declare(name, passive=True)).message_count or 0 for name in queues])

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The dead, the longest dead first. They are put back after the look: until then no other process sees them.

        Raises AMQPConnectionError when the broker does not answer.
        """
        async with self._look(max(limit, _KEPT_IN_ORDER)) as messages:
            return [self._dead_letter(message) for message in messages[:limit]]

    async def redrive(self, job_id: UUID) -> bool:
        """Put a dead job back to work with fresh attempts. False when there is none of that id.

        Raises AMQPConnectionError when the broker does not answer: the job is then among the dead, at work, or both.
        """
        async with self._look() as messages:
            for message in messages:
                if _job(message).id == job_id:
                    async with self._answering():
                        await self._send([_copy(message, {})], "", self.name)
                        await message.ack()
                    return True
        return False

    @contextlib.asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """For what somebody waits for. Raises AMQPConnectionError when the broker is away (at once) or too slow."""
        if not self._connection.connected.is_set():
            raise AMQPConnectionError("RabbitMQ is not connected")
        try:
            async with self._circuit.calling(), asyncio.timeout(ANSWER_SECONDS):
                yield
        except (*_LOST_CONNECTION, CircuitOpen) as error:
            raise AMQPConnectionError(f"RabbitMQ does not answer: {error!r}") from error

    # -- working -------------------------------------------------------------------------------------------------------

    async def _serve(self, make_attempt: MakeAttempt, concurrency: int) -> None:
        """Consume on one channel, which is sent no more than is worked on: being lost costs each message an attempt.

        One for each worker would cost more: when they close, a job goes from one to the next and is counted each time.
        """
        await self._open()
        await self._connection.ready()
        inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        async with self._connection.channel() as channel:  # closing it gives back what is not acknowledged
            await channel.set_qos(prefetch_count=concurrency)
            queue = await channel.declare_queue(self.name, durable=True, arguments=self._work_arguments())
            await queue.consume(inbox.put)
            stop_if_cancelled()
            async with asyncio.TaskGroup() as workers:
                for _ in range(concurrency):
                    workers.create_task(self._worker(inbox, make_attempt))

    async def _worker(self, inbox: asyncio.Queue[AbstractIncomingMessage], make_attempt: MakeAttempt) -> None:
        while True:
            stop_if_cancelled()
            message = await inbox.get()
            try:
                if not message.channel.is_closed:  # else the broker has taken it back already
                    await self._work(message, make_attempt)
            except _LOST_CONNECTION as error:
                _log.warning("a job goes back to the broker", queue=self.name, error=str(error))
                with contextlib.suppress(*_LOST_CONNECTION):
                    await message.nack(requeue=True)

    async def _work(self, message: AbstractIncomingMessage, make_attempt: MakeAttempt) -> None:
        job = _job(message)
        if job.kind == _UNREADABLE:
            await message.reject(requeue=False)
            return
        number = _integer(message, ATTEMPT_HEADER, 1) + _integer(message, "x-delivery-count", 0)
        self._working += 1
        try:
            error = await make_attempt(job, number)
        finally:
            self._working -= 1
        if message.channel.is_closed:
            return  # it is being delivered again, and this attempt is counted there
        if error == POSTPONED and not self.backoff:
            await message.nack(requeue=True)
            return
        if error is not None:
            await self._fail(message, number, error)
        await message.ack()

    async def _fail(self, message: AbstractIncomingMessage, number: int, error: str) -> None:
        if error == POSTPONED:
            again = _copy(message, {ATTEMPT_HEADER: number})
            await self._send([again], "", self._retry_name(self.backoff[0]))
        elif number < self.max_attempts:
            retry = _copy(message, {ATTEMPT_HEADER: number + 1})
            await self._send([retry], "", self._retry_name(self.backoff[number - 1]))
        else:
            dead = _copy(message, {ATTEMPT_HEADER: min(number, self.max_attempts), ERROR_HEADER: error})
            await self._send([dead], DEAD_LETTER_EXCHANGE, self.name)

    # -- publishing ----------------------------------------------------------------------------------------------------

    async def _send(self, messages: Sequence[aio_pika.Message], exchange: str, routing_key: str) -> None:
        try:
            async with asyncio.timeout(self.publish_seconds):
                while True:
                    messages = await self._unconfirmed(messages, exchange, routing_key)
                    if not messages:
                        return
                    await asyncio.sleep(0.2)
        except TimeoutError:
            self._channel = None  # one that does not confirm is not asked again
            raise

    async def _unconfirmed(
        self, messages: Sequence[aio_pika.Message], exchange: str, routing_key: str
    ) -> Sequence[aio_pika.Message]:
        """Publish all at once; returns those that the broker did not confirm."""
        try:
            channel = await self._open()
            target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        except ChannelPreconditionFailed:  # a queue is there with other arguments: waiting does not mend that
            raise
        except _LOST_CONNECTION as error:
            _log.warning("publishing waits for the broker", queue=self.name, error=str(error))
            return messages
        outcomes = await asyncio.gather(
            *(target.publish(message, routing_key, mandatory=True) for message in messages), return_exceptions=True
        )
        for outcome in outcomes:
            lost = isinstance(outcome, (*_LOST_CONNECTION, asyncio.CancelledError))
            if isinstance(outcome, PublishError) or (isinstance(outcome, BaseException) and not lost):
                raise outcome
        return [
            message for message, outcome in zip(messages, outcomes, strict=True) if isinstance(outcome, BaseException)
        ]

    # -- looking at the dead -------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _look(self, limit: int | None = None) -> AsyncIterator[list[AbstractIncomingMessage]]:
        """Take the dead in hand; afterwards all that are not acknowledged go back to the front."""
        async with self._looking:
            async with self._answering():
                queue = await (await self._open()).get_queue(self._dead_name, ensure=False)
            taken: list[AbstractIncomingMessage] = []
            try:
                while limit is None or len(taken) < limit:
                    async with self._answering():
                        message = await queue.get(fail=False)
                    if message is None:
                        break
                    taken.append(message)
                yield taken
            finally:
                back = [message for message in taken if not message.processed]
                if back:
                    with contextlib.suppress(*_LOST_CONNECTION):  # then the broker puts them back by itself
                        await back[-1].nack(multiple=True, requeue=True)

    def _dead_letter(self, message: AbstractIncomingMessage) -> DeadLetter:
        """What we buried says why in its headers; of the rest the broker says why in `x-death`."""
        deaths = message.headers.get("x-death")
        death = deaths[0] if isinstance(deaths, list) and deaths else None
        reason = death.get("reason") if isinstance(death, dict) else None
        time = death.get("time") if isinstance(death, dict) else None
        attempts = _integer(message, ATTEMPT_HEADER, 1)
        return DeadLetter(
            job=_job(message),
            queue=self.name,
            error=str(message.headers.get(ERROR_HEADER) or reason or ""),
            attempts=self.max_attempts if reason == "delivery_limit" else attempts,
            died_at=message.timestamp or (time if isinstance(time, datetime) else None),
        )

    # -- what there is on the broker -----------------------------------------------------------------------------------

    async def _open(self) -> AbstractChannel:
        """The channel for all but consuming."""
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                await self._connection.ready()
                channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
                await self._declare(channel)
                self._channel = channel
            return self._channel

    async def _declare(self, channel: AbstractChannel) -> None:
        exchange = await channel.declare_exchange(DEAD_LETTER_EXCHANGE, aio_pika.ExchangeType.DIRECT, durable=True)
        dead = await channel.declare_queue(self._dead_name, durable=True, arguments=_DEAD_ARGUMENTS)
        await dead.bind(exchange, self.name)
        await channel.declare_queue(self.name, durable=True, arguments=self._work_arguments())
        for seconds in sorted(set(self.backoff)):
            name = self._retry_name(seconds)
            await channel.declare_queue(name, durable=True, arguments=self._retry_arguments(seconds))

    @property
    def _dead_name(self) -> str:
        return f"{self.name}.dlq"

    def _retry_name(self, seconds: float) -> str:
        return f"{self.name}.retry.{round(seconds * 1000)}"

    def _work_arguments(self) -> Arguments:
        return {**_dead_letters_to(DEAD_LETTER_EXCHANGE, self.name), "x-delivery-limit": _DELIVERY_LIMIT}

    def _retry_arguments(self, seconds: float) -> Arguments:
        return {**_dead_letters_to("", self.name), "x-message-ttl": round(seconds * 1000)}


_DEAD_ARGUMENTS: Arguments = {"x-queue-type": "quorum", "x-delivery-limit": _LOOKS}


def _dead_letters_to(exchange: str, routing_key: str) -> dict[str, FieldValue]:
    """A quorum queue that keeps what it dead-letters until the next queue has confirmed it."""
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": routing_key,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


# -- messages ----------------------------------------------------------------------------------------------------------

_UNREADABLE = "unreadable"
_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Job)


def _message(job: Job) -> aio_pika.Message:
    return aio_pika.Message(
        _encoder.encode(job),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=str(job.id),
        type=job.kind,
    )


def _copy(message: AbstractIncomingMessage, headers: HeadersType) -> aio_pika.Message:
    """The same job with other headers: the broker's own must not travel on, they would look like a cycle."""
    return aio_pika.Message(
        message.body,
        headers=headers,
        content_type=message.content_type,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=message.message_id,
        timestamp=datetime.now(UTC) if ERROR_HEADER in headers else None,
        type=message.type,
    )


def _job(message: AbstractIncomingMessage) -> Job:
    """The job in a message. What somebody else put there is of the kind "unreadable", named by its bytes."""
    try:
        return _decoder.decode(message.body)
    except msgspec.MsgspecError:
        return Job(uuid5(NAMESPACE_OID, message.body.hex()), _UNREADABLE)


def _integer(message: AbstractIncomingMessage, header: str, default: int) -> int:
    value = message.headers.get(header)
    return value if isinstance(value, int) else default
