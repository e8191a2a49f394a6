"""The channel over which a queue publishes, with the broker's confirm for each message."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractRobustConnection
from aio_pika.exceptions import (
    AMQPError,
    ChannelInvalidStateError,
    ChannelPreconditionFailed,
    PublishError,
)

from adapters.queues.rabbitmq_topology import Topology

LOST_CONNECTION = (AMQPError, ChannelInvalidStateError, OSError)

OPEN_SECONDS = 10.0
"""How long the broker may take to open a channel and to declare what it is for. A node in trouble
keeps up its heartbeats, and answers nothing else."""

CLOSE_SECONDS = 0.1
"""How long the broker may take to close a channel that was not opened. It ends with the connection
anyway."""

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def opening(channel: AbstractChannel) -> AsyncIterator[None]:
    """Wrap what opens a channel, which is closed if that fails. Raises TimeoutError when the broker
    does not answer in time."""
    try:
        async with asyncio.timeout(OPEN_SECONDS):
            yield
    except BaseException:
        with suppress(*LOST_CONNECTION):
            async with asyncio.timeout(CLOSE_SECONDS):
                await channel.close()
        raise


class ConfirmedChannel:
    """Publishes until the broker has confirmed, for at most `publish_seconds`."""

    def __init__(
        self, connection: AbstractRobustConnection, topology: Topology, publish_seconds: float
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._publish_seconds = publish_seconds
        self._channel: AbstractChannel | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> AbstractChannel:
        """The channel, which is opened anew when it was closed; the queues are declared then.
        Waits for a lost connection. Raises TimeoutError when the broker then does not answer."""
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                await self._connection.ready()
                channel = self._connection.channel(publisher_confirms=True, on_return_raises=True)
                async with opening(channel):
                    await channel
                    await self._topology.declare(channel)
                self._channel = channel
            return self._channel

    async def send(
        self, messages: Sequence[aio_pika.Message], exchange: str, routing_key: str
    ) -> None:
        """Return once the broker has confirmed all messages. Waits for a lost connection. Raises
        TimeoutError, and PublishError when no queue takes a message."""
        try:
            async with asyncio.timeout(self._publish_seconds):
                while True:
                    messages = await self._unconfirmed(messages, exchange, routing_key)
                    if not messages:
                        return
                    await asyncio.sleep(0.2)
        except TimeoutError:
            self._channel = None  # do not use a channel that does not confirm again
            raise

    async def _unconfirmed(
        self, messages: Sequence[aio_pika.Message], exchange: str, routing_key: str
    ) -> Sequence[aio_pika.Message]:
        """Publish all at once. Returns those that the broker did not confirm."""
        try:
            channel = await self.open()
            target = (
                await channel.get_exchange(exchange, ensure=False)
                if exchange
                else channel.default_exchange
            )
        except ChannelPreconditionFailed:
            # a queue exists with other arguments: waiting does not help
            raise
        except LOST_CONNECTION as error:
            _log.warning(
                "publishing waits for the broker", queue=self._topology.name, error=str(error)
            )
            return messages
        outcomes = await asyncio.gather(
            *(target.publish(message, routing_key, mandatory=True) for message in messages),
            return_exceptions=True,
        )
        for outcome in outcomes:
            lost = isinstance(outcome, (*LOST_CONNECTION, asyncio.CancelledError))
            if isinstance(outcome, PublishError) or (
                isinstance(outcome, BaseException) and not lost
            ):
                raise outcome
        return [
            message
            for message, outcome in zip(messages, outcomes, strict=True)
            if isinstance(outcome, BaseException)
        ]
