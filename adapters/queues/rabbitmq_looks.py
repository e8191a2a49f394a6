"""Looks at the messages of a queue, which the broker shows only to whoever takes them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from uuid import uuid4

from aio_pika.abc import AbstractIncomingMessage
from aio_pika.message import IncomingMessage
from aiormq.abc import AbstractChannel, DeliveredMessage

from adapters.queues.rabbitmq_channel import CLOSE_SECONDS, LOST_CONNECTION, ConfirmedChannel

SILENT_SECONDS = 0.8
"""After such a silence no more messages are expected: others have taken them."""

_MOST_UNANSWERED = 2**16 - 1
"""As many messages can be sent before they are answered, if not any number (0)."""

_ALL = 0
"""The tag of all messages of a channel that are not answered yet."""

Answering = Callable[[], AbstractAsyncContextManager[None]]
"""Wraps a call of the broker."""


class Looks:
    """Looks at one queue, one at a time. Nothing else is received over the channel."""

    def __init__(self, channel: ConfirmedChannel, queue: str, answering: Answering) -> None:
        self._channel = channel
        self._queue = queue
        self._answering = answering
        self._looking = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def look(self, limit: int | None = None) -> AsyncIterator[list[AbstractIncomingMessage]]:
        """Take the first messages; afterwards all unacknowledged ones go back to the front. Raises
        what `answering` raises."""
        async with self._looking:
            async with self._answering():
                channel = await (await self._channel.open()).get_underlay_channel()
            groups: list[list[IncomingMessage]] = []
            try:
                async for group in self._groups(channel, limit):
                    groups.append(group)
                yield [message for group in groups for message in group]
            finally:
                with contextlib.suppress(*LOST_CONNECTION):  # then they go back by themselves
                    await _return(channel, groups)

    async def _groups(
        self, channel: AbstractChannel, limit: int | None
    ) -> AsyncIterator[list[IncomingMessage]]:
        """The first messages: one that is asked for, which tells whether there are any once earlier
        looks are over, then those behind it that the broker counts, until there are none."""
        count = 0
        while limit is None or count < limit:
            async with self._answering():
                found = await channel.basic_get(self._queue)
            if found.delivery_tag is None:
                return
            yield [IncomingMessage(found)]
            async with self._answering():
                declared = await channel.queue_declare(self._queue, passive=True)
            left = declared.message_count or 0
            if limit is not None:
                left = min(left, limit - count - 1)
            sent = await self._sent(channel, left)
            yield list(map(IncomingMessage, sent))
            count += 1 + len(sent)

    async def _sent(self, channel: AbstractChannel, count: int) -> list[DeliveredMessage]:
        """So many of the next messages, or fewer: others may have taken the rest, and the broker's
        count may lag. They are sent without being asked for one by one, which would take as many
        round trips."""
        if not count:
            return []
        inbox: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
        sent: list[DeliveredMessage] = []
        tag = f"look-{uuid4()}"
        try:
            async with self._answering():
                await channel.basic_qos(prefetch_count=count if count <= _MOST_UNANSWERED else 0)
                await channel.basic_consume(self._queue, inbox.put, consumer_tag=tag)
            with contextlib.suppress(TimeoutError):
                while len(sent) < count:
                    async with asyncio.timeout(SILENT_SECONDS):
                        sent.append(await inbox.get())
        finally:
            await self._cancel(channel, tag)
        while not inbox.empty():
            sent.append(inbox.get_nowait())
        return sent

    async def _cancel(self, channel: AbstractChannel, tag: str) -> None:
        """Have the broker send no more. Raises what `answering` raises; then the channel is closed,
        so that what was sent meanwhile goes back."""
        try:
            async with self._answering():
                await channel.basic_cancel(tag)
        except BaseException:
            with contextlib.suppress(*LOST_CONNECTION):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await channel.close()
            raise


async def _return(channel: AbstractChannel, groups: Iterable[list[IncomingMessage]]) -> None:
    """Give back what was not acknowledged, in its order: a quorum queue keeps the order in which
    messages come back, and of those that came in different ways, by one request, in any."""
    for group in groups:
        back = [message for message in group if not message.processed]
        if back and (tag := back[-1].delivery_tag):
            await channel.basic_nack(tag, multiple=True, requeue=True)
    await channel.basic_nack(_ALL, multiple=True, requeue=True)  # what a look lost that failed
