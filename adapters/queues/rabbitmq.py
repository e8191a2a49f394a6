"""The work queue on RabbitMQ, with publisher confirms for every move between its queues
(`rabbitmq_topology`): a failed job is published to a retry or the dead queue, then acknowledged.

RabbitMQ does not know a job's id: published twice, it is delivered twice, and the handler must be
idempotent. Every start counts as an attempt, so that a job whose worker dies each time also becomes
a dead letter.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

import structlog
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustConnection
from aio_pika.connection import make_url
from aio_pika.exceptions import AMQPConnectionError, ChannelInvalidStateError
from aio_pika.robust_connection import RobustConnection

from adapters.amqp_tls import amqp_context
from adapters.queues.attempts import BACKOFF, POSTPONED, MakeAttempt, attempt_job, finish
from adapters.queues.rabbitmq_channel import LOST_CONNECTION, ConfirmedChannel, opening
from adapters.queues.rabbitmq_looks import Looks
from adapters.queues.rabbitmq_messages import (
    ATTEMPT_HEADER,
    ERROR_HEADER,
    UNREADABLE,
    copy_of,
    dead_letter_of,
    integer_header,
    job_message,
    job_of,
)
from adapters.queues.rabbitmq_topology import DEAD_LETTER_EXCHANGE, Topology
from adapters.queues.standstill import Standstill
from commands.ports.queue import DeadLetter, Job, JobHandler, JobsFound, JobState
from kit.cancellation import cancel_until_ended, stop_if_cancelled
from kit.circuit import Circuit, CircuitOpen
from kit.tls import USUAL, Trust

_KEPT_IN_ORDER = 1000
"""How many dead letters keep their order when some are looked at: a returned message goes behind
those returned before, so all must be taken and returned together."""

HEARTBEAT_SECONDS = 4
"""Each end drops a connection after a silence of two to three times as long."""

CONNECT_SECONDS = 10.0
"""How long one attempt to connect may take. Heartbeats begin after it: without this bound, a broker
that accepts a connection and then says nothing would be waited for until the process ends."""

ANSWER_SECONDS = 0.8
"""How long the broker may take for a look at a queue, or for a redrive."""

_PUBLISH_AT_ONCE = 500

_NO_ANSWER = (AMQPConnectionError, ChannelInvalidStateError, OSError)  # a timeout is an OSError

_log = structlog.get_logger(__name__)


async def connect(
    url: str, *, reconnect_seconds: float = 1, trust: Trust = USUAL
) -> AbstractRobustConnection:
    """Connect to the broker. While it is down, now or later, the
    connection re-establishes itself."""
    connection = RobustConnection(
        make_url(
            url, reconnect_interval=reconnect_seconds, fail_fast=False, heartbeat=HEARTBEAT_SECONDS
        ),
        client_properties={"connection_name": "ludoteca"},
        ssl_context=amqp_context(url, trust),
    )
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await connection.connect(CONNECT_SECONDS)
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
    """Implements `WorkQueue`. Declares its queues on first use. The caller owns the connection."""

    def __init__(
        self,
        connection: AbstractRobustConnection,
        name: str = "ludoteca.payments",
        *,
        backoff: Sequence[float] = BACKOFF,
        publish_seconds: float = 30,
        circuit: Circuit | None = None,
    ) -> None:
        """`backoff` has the seconds to wait after each failed attempt but the last. Publishing is
        tried for `publish_seconds`. Queues of one broker share a `circuit`, and so the knowledge
        whether it is down."""
        self.name = name
        self.backoff = tuple(backoff)
        self._connection = connection
        self._topology = Topology(name, self.backoff)
        self._channel = ConfirmedChannel(connection, self._topology, publish_seconds)
        self._circuit = circuit or rabbitmq_circuit()
        self._dead = Looks(self._channel, self._topology.dead_name, self._answering)
        self._standstill = Standstill()
        self._working = 0

    @property
    def max_attempts(self) -> int:
        """How often a job is tried before it becomes a dead letter."""
        return len(self.backoff) + 1

    async def publish(self, jobs: Sequence[Job]) -> None:
        """Return when a majority of the brokers has stored the jobs.

        Waits for a lost connection, and sends unconfirmed jobs again. Raises TimeoutError when the
        broker stays down, PublishError when the queue has been removed.
        """
        for start in range(0, len(jobs), _PUBLISH_AT_ONCE):
            await self._channel.send(
                [job_message(job) for job in jobs[start : start + _PUBLISH_AT_ONCE]], "", self.name
            )

    async def consume(
        self, handler: JobHandler, *, concurrency: int = 4, lost: JobHandler | None = None
    ) -> None:
        """Hand jobs to the handler until cancelled, `concurrency` at a time; those in progress then
        have FINISH_SECONDS to end, and go back.

        Waits for a lost connection; jobs in progress are then delivered again.
        """
        make_attempt = partial(
            attempt_job, max_attempts=self.max_attempts, handler=handler, lost=lost
        )
        while True:
            stop_if_cancelled()
            try:
                await self._serve(make_attempt, concurrency)
            except LOST_CONNECTION as error:
                _log.warning("work queue lost its broker", queue=self.name, error=str(error))
                await asyncio.sleep(1)

    async def depth(self) -> int:
        """The number of jobs that wait for work or a retry, or are in progress here: the broker
        does not count what other processes hold. Raises AMQPConnectionError when it does not
        answer."""
        async with self._answering():
            return await self._waiting(self.name, *self._topology.retry_names) + self._working

    async def oldest_seconds(self) -> float:
        """At most as long as the first job waits: the broker does not tell when it came, so it is
        since when looks from here have found that jobs wait and become no fewer. Raises
        AMQPConnectionError when the broker does not answer."""
        async with self._answering():
            return self._standstill.seconds(await self._waiting(self.name))

    async def dead(self) -> int:
        """The number of dead letters. Raises AMQPConnectionError when
        the broker does not answer."""
        async with self._answering():
            return await self._waiting(self._topology.dead_name)

    async def _waiting(self, *queues: str) -> int:
        channel = await (await self._channel.open()).get_underlay_channel()
        return sum(
            [
                (await channel.queue_declare(name, passive=True)).message_count or 0
                for name in queues
            ]
        )

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The dead letters, the oldest first. Other processes do not see them until this look has
        returned them.

        Raises AMQPConnectionError when the broker does not answer.
        """
        async with self._dead.look(max(limit, _KEPT_IN_ORDER)) as messages:
            return [
                dead_letter_of(message, self.name, self.max_attempts)
                for message in messages[:limit]
            ]

    async def about(self, ids: Collection[UUID]) -> JobsFound:
        """The dead letters with one of these ids, their own or one in their body, among the oldest
        _KEPT_IN_ORDER. The broker shows no other job without handing it to a worker.

        Raises AMQPConnectionError when the broker does not answer.
        """
        texts = set(map(str, ids))
        found = [
            letter
            for letter in await self.dead_letters(_KEPT_IN_ORDER)
            if letter.job.id in ids or texts & set(letter.job.body.values())
        ]
        return JobsFound(
            [
                JobState(
                    job=letter.job,
                    queue=self.name,
                    state="dead",
                    attempts=letter.attempts,
                    max_attempts=self.max_attempts,
                    due_at=None,
                    error=letter.error,
                )
                for letter in found
            ],
            unseen=await self.depth(),
        )

    async def delete_dead(self, before: datetime) -> int:
        """Delete dead letters that died before this time, of the oldest _KEPT_IN_ORDER. Returns
        their number. Raises AMQPConnectionError when the broker does not answer."""
        count = 0
        async with self._dead.look(_KEPT_IN_ORDER) as messages:
            for message in messages:
                died_at = dead_letter_of(message, self.name, self.max_attempts).died_at
                if died_at is not None and died_at < before:
                    async with self._answering():
                        await message.ack()
                    count += 1
        return count

    async def redrive(self, job_id: UUID) -> bool:
        """Put a dead letter back to work with fresh attempts. Returns False when there is none with
        this id.

        Raises AMQPConnectionError when the broker does not answer: the job is then dead, at work,
        or both.
        """
        return bool(await self.redrive_all([job_id]))

    async def redrive_all(self, job_ids: Collection[UUID]) -> set[UUID]:
        """Put dead letters back to work with fresh attempts, one after the other. Returns the ids
        of those that there were.

        Raises AMQPConnectionError when the broker does not answer: the one in hand is then dead, at
        work, or both, and those after it are dead.
        """
        wanted, done = frozenset(job_ids), set[UUID]()
        async with self._dead.look() as messages:
            for message in messages:
                job_id = job_of(message).id
                if job_id in wanted and job_id not in done:
                    async with self._answering():
                        await self._channel.send([copy_of(message, {})], "", self.name)
                        await message.ack()
                    done.add(job_id)
        return done

    async def discard(self, job_ids: Collection[UUID]) -> set[UUID]:
        """Delete dead letters, one after the other; of a job that was published twice, both.
        Returns the ids of those that there were.

        Raises AMQPConnectionError when the broker does not answer: some are then deleted.
        """
        wanted, done = frozenset(job_ids), set[UUID]()
        async with self._dead.look() as messages:
            for message in messages:
                if (job_id := job_of(message).id) in wanted:
                    async with self._answering():
                        await message.ack()
                    done.add(job_id)
        return done

    @contextlib.asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """Wrap a call that a client waits for. Raises AMQPConnectionError when the broker is down
        (at once) or too slow."""
        connected = self._connection.connected.is_set()
        self._circuit.show(away=not connected)
        if not connected:
            raise AMQPConnectionError("RabbitMQ is not connected")
        try:
            async with self._circuit.calling(), asyncio.timeout(ANSWER_SECONDS):
                yield
        except (*LOST_CONNECTION, CircuitOpen) as error:
            raise AMQPConnectionError(f"RabbitMQ does not answer: {error!r}") from error

    # -- working -----------------------------------------------------------------------------------

    async def _serve(self, make_attempt: MakeAttempt, concurrency: int) -> None:
        """Consume on one channel, with no more messages than are in progress: a lost channel costs
        each of them an attempt.

        A channel per worker would cost more: as they close, a job passes from one to the next and
        is counted each time.
        """
        await self._channel.open()
        await self._connection.ready()
        inbox: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        channel = self._connection.channel()
        async with opening(channel):
            await channel
            await channel.set_qos(prefetch_count=concurrency)
            queue = await channel.declare_queue(
                self.name, durable=True, arguments=self._topology.work_arguments
            )
            tag = await queue.consume(inbox.put)
        async with channel:  # closing it returns unacknowledged messages
            working = asyncio.create_task(self._work_all(inbox, make_attempt, concurrency))
            try:
                stop_if_cancelled()
                await asyncio.shield(working)
            finally:
                # Deliver no more: what nobody begins is not to count as an attempt. Without a
                # connection, it is only noted that none is to be made again for this consumer.
                connected = self._connection.connected.is_set()
                with contextlib.suppress(*LOST_CONNECTION):
                    async with asyncio.timeout(ANSWER_SECONDS if connected else 0):
                        await queue.cancel(tag)
                await cancel_until_ended([working])

    async def _work_all(
        self, inbox: asyncio.Queue[AbstractIncomingMessage], make_attempt: MakeAttempt, number: int
    ) -> None:
        async with asyncio.TaskGroup() as workers:
            for _ in range(number):
                workers.create_task(self._worker(inbox, make_attempt))

    async def _worker(
        self, inbox: asyncio.Queue[AbstractIncomingMessage], make_attempt: MakeAttempt
    ) -> None:
        while True:
            stop_if_cancelled()
            message = await inbox.get()
            handling = asyncio.create_task(self._handle(message, make_attempt))
            try:
                await asyncio.shield(handling)
            finally:
                await finish([handling])

    async def _handle(self, message: AbstractIncomingMessage, make_attempt: MakeAttempt) -> None:
        try:
            if not message.channel.is_closed:  # otherwise the broker has taken it back
                await self._work(message, make_attempt)
        except LOST_CONNECTION as error:
            _log.warning("a job goes back to the broker", queue=self.name, error=str(error))
            with contextlib.suppress(*LOST_CONNECTION):
                await message.nack(requeue=True)

    async def _work(self, message: AbstractIncomingMessage, make_attempt: MakeAttempt) -> None:
        job = job_of(message)
        if job.kind == UNREADABLE:
            await message.reject(requeue=False)
            return
        number = integer_header(message, ATTEMPT_HEADER, 1) + integer_header(
            message, "x-delivery-count", 0
        )
        self._working += 1
        try:
            error = await make_attempt(job, number)
        finally:
            self._working -= 1
        if message.channel.is_closed:
            return  # the redelivery counts this attempt
        if error == POSTPONED and not self.backoff:
            await message.nack(requeue=True)
            return
        if error is not None:
            await self._fail(message, number, error)
        await message.ack()

    async def _fail(self, message: AbstractIncomingMessage, number: int, error: str) -> None:
        if error == POSTPONED:
            again = copy_of(message, {ATTEMPT_HEADER: number})
            await self._channel.send([again], "", self._topology.retry_name(self.backoff[0]))
        elif number < self.max_attempts:
            retry = copy_of(message, {ATTEMPT_HEADER: number + 1})
            await self._channel.send(
                [retry], "", self._topology.retry_name(self.backoff[number - 1])
            )
        else:
            dead = copy_of(
                message, {ATTEMPT_HEADER: min(number, self.max_attempts), ERROR_HEADER: error}
            )
            await self._channel.send([dead], DEAD_LETTER_EXCHANGE, self.name)
