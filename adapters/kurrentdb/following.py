"""All our records in KurrentDB's order: some of them, or for ever."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Self, TypeVar

import grpc
from kurrentdbclient import AsyncKurrentDBClient, RecordedEvent
from kurrentdbclient.exceptions import KurrentDBClientError

from adapters.kurrentdb.wire import PREFIX, Copied, CopiedOnce
from eventstore.log import LogUnavailable
from kit.background import background_task

T = TypeVar("T")

CALL_SECONDS = 3.0
"""How long KurrentDB may take for an answer."""

FAILURES = (
    KurrentDBClientError,
    grpc.RpcError,
    grpc.aio.UsageError,
    ConnectionError,
    TimeoutError,
    LogUnavailable,
)
"""KurrentDB is not there, or not as expected: connect anew."""

MAX_RECORDS, MAX_BYTES = 2_000, 8 << 20
"""How much an inbox gathers; the subscription waits then."""


class Inbox:
    """Gathers in a task of its own what a subscription delivers: `async with Inbox(subscription)
    as inbox`."""

    def __init__(self, subscription: AsyncIterator[RecordedEvent]) -> None:
        self._subscription = subscription
        self._arrived: list[RecordedEvent] = []
        self._bytes = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._end: Exception | None = None

    async def __aenter__(self) -> Self:
        self._task = background_task(self._gather(), "inbox of a subscription")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def take(self, seconds: float) -> list[RecordedEvent]:
        """All that has arrived, or what arrives next. Raises TimeoutError when nothing comes
        within some `seconds`; what the subscription raised; ConnectionError when it ended."""
        async with asyncio.timeout(seconds):
            await self._news.wait()
        if not self._arrived and self._end is not None:
            raise self._end
        taken, self._arrived, self._bytes = self._arrived, [], 0
        if self._end is None:
            self._news.clear()
        self._room.set()
        return taken

    async def _gather(self) -> None:
        try:
            async for recorded in self._subscription:
                self._arrived.append(recorded)
                self._bytes += len(recorded.data) + len(recorded.metadata)
                self._news.set()
                if len(self._arrived) >= MAX_RECORDS or self._bytes >= MAX_BYTES:
                    self._room.clear()
                    await self._room.wait()
            self._end = ConnectionError("the subscription ended")
        except Exception as error:  # told to whoever takes
            self._end = error
        finally:
            self._news.set()


@asynccontextmanager
async def following(client: AsyncKurrentDBClient, after: int) -> AsyncIterator[Inbox]:
    """Our records behind a commit position (0: all), a mark where it has caught up
    (`is_caught_up`), and now and then one that tells how far the server has searched among the
    records of others (`is_checkpoint`). Raises one of FAILURES."""
    subscription = await answer(
        client.subscribe_to_all(
            commit_position=after or None,
            filter_include=[PREFIX],
            filter_by_stream_name=True,
            filter_by_prefix=True,
            include_checkpoints=True,
            include_caught_up=True,
        )
    )
    try:
        async with Inbox(subscription) as inbox:
            yield inbox
    finally:
        with suppress(*FAILURES):
            await subscription.stop()


async def records(
    client: AsyncKurrentDBClient, *, commit_position: int | None = None, backwards: bool = False
) -> AsyncGenerator[RecordedEvent, None]:
    """Our records, the last one first with `backwards`; from a place on, itself included, if
    given. Raises one of FAILURES."""
    found = await answer(
        client.read_all(
            commit_position=commit_position,
            backwards=backwards,
            filter_include=[PREFIX],
            filter_by_stream_name=True,
            filter_by_prefix=True,
            limit=1_000,
            timeout=CALL_SECONDS,
        )
    )
    async with found:
        async for recorded in found:
            yield recorded


async def end(client: AsyncKurrentDBClient) -> int:
    """The commit position of our last record; 0 when there is none. Raises one of FAILURES."""
    async with aclosing(records(client, backwards=True)) as ours:
        last = await anext(ours, None)
    return last.commit_position if last else 0


async def answer(call: Coroutine[object, object, T]) -> T:
    """The answer to a call. Raises TimeoutError.

    In a task of its own, as the client sometimes takes a cancellation for a failure and tries
    again.
    """
    task = background_task(call, "call to KurrentDB")
    try:
        await asyncio.wait([task], timeout=CALL_SECONDS)
        if not task.done():
            raise TimeoutError("KurrentDB does not answer")
        return task.result()
    finally:
        task.cancel()


def whole(records: Sequence[Copied | CopiedOnce]) -> int:
    """How many of the records are of appends that are complete: an append ends with its last
    event."""
    for n in range(len(records), 0, -1):
        last = records[n - 1]
        if isinstance(last, Copied) and last.number == last.of - 1:
            return n
    return 0
