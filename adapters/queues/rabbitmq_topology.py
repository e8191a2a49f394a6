"""The queues of RabbitMQ that make up one work queue: quorum queues, between which the broker moves
messages by itself.

    work  <name>                new jobs, and those whose wait is over
    retry <name>.retry.<ms>     one per wait: a TTL within one queue blocks at its head
    dead  <name>.dlq            through the exchange `ludoteca.dlx`

After its wait a job returns to the work queue by the retry queue's dead-letter exchange.
"""

from collections.abc import Sequence

import aio_pika
from aio_pika.abc import AbstractChannel
from pamqp.common import Arguments, FieldValue

DEAD_LETTER_EXCHANGE = "ludoteca.dlx"

_DELIVERY_LIMIT = 20
"""The broker's own limit for a job that kills its worker before the attempt can be counted. It does
not depend on the backoff, which is a setting: a queue's arguments cannot be changed once it exists.
"""

_LOOKS = 2**31 - 1
"""Delivery limit of the dead queue, where each look counts as a delivery. Without one, RabbitMQ 4
would set 20, drop jobs that were looked at more often, and put returned messages at the queue's
end."""


class Topology:
    """The names and arguments of a work queue's queues. `backoff` has the waits, in seconds."""

    def __init__(self, name: str, backoff: Sequence[float]) -> None:
        self.name = name
        self.waits = sorted(set(backoff))

    @property
    def dead_name(self) -> str:
        """The queue of dead letters."""
        return f"{self.name}.dlq"

    @property
    def retry_names(self) -> list[str]:
        """The queues of jobs that wait for another attempt."""
        return [self.retry_name(seconds) for seconds in self.waits]

    def retry_name(self, seconds: float) -> str:
        """The queue in which a job waits this long."""
        return f"{self.name}.retry.{round(seconds * 1000)}"

    @property
    def work_arguments(self) -> Arguments:
        return {
            **_dead_letters_to(DEAD_LETTER_EXCHANGE, self.name),
            "x-delivery-limit": _DELIVERY_LIMIT,
        }

    async def declare(self, channel: AbstractChannel) -> None:
        """Create what does not exist yet. Raises ChannelPreconditionFailed if a queue exists with
        other arguments."""
        exchange = await channel.declare_exchange(
            DEAD_LETTER_EXCHANGE, aio_pika.ExchangeType.DIRECT, durable=True
        )
        dead = await channel.declare_queue(self.dead_name, durable=True, arguments=_DEAD_ARGUMENTS)
        await dead.bind(exchange, self.name)
        await channel.declare_queue(self.name, durable=True, arguments=self.work_arguments)
        for seconds in self.waits:
            await channel.declare_queue(
                self.retry_name(seconds), durable=True, arguments=self._retry_arguments(seconds)
            )

    def _retry_arguments(self, seconds: float) -> Arguments:
        return {**_dead_letters_to("", self.name), "x-message-ttl": round(seconds * 1000)}


_DEAD_ARGUMENTS: Arguments = {"x-queue-type": "quorum", "x-delivery-limit": _LOOKS}


def _dead_letters_to(exchange: str, routing_key: str) -> dict[str, FieldValue]:
    """Arguments of a quorum queue that keeps what it dead-letters until the next queue has
    confirmed it."""
    return {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-routing-key": routing_key,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
