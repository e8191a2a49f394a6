"""What API processes that share a port share besides: memory that `ludoteca run` creates."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from api.middleware.joined_metrics import ALIVE_SECONDS, PUBLISH_SECONDS
from api.middleware.limits import Rates
from api.middleware.metrics import Metrics
from api.middleware.shared_windows import SharedWindows
from api.siblings import Siblings
from eventstore.clock_watch import ClockWatch
from kit.cancellation import stop_if_cancelled
from kit.shared_memory import NoticeBoard, create_memory, map_memory

logger = logging.getLogger(__name__)

_AMOUNTS = Rates().amounts


def create_shared(processes: int) -> int:
    """Memory for so many API processes, as a descriptor that they inherit."""
    descriptor = create_memory(SharedWindows.size(_AMOUNTS) + NoticeBoard.size(processes))
    SharedWindows.prepare(descriptor)
    return descriptor


def siblings_of(number: int, descriptor: int) -> Siblings:
    """The process with this number, and the memory that it shares with the others."""
    memory = map_memory(descriptor)
    return Siblings(number, _board(memory), SharedWindows(descriptor, memory, _AMOUNTS))


def all_serve(descriptor: int) -> bool:
    """Whether all API processes that share the memory serve."""
    board = _board(map_memory(descriptor))
    messages = [board.read(place) for place in range(board.places)]
    return all(each is not None and each.age < ALIVE_SECONDS for each in messages)


def _board(memory: memoryview) -> NoticeBoard:
    return NoticeBoard(memory[SharedWindows.size(_AMOUNTS) :])


@contextlib.asynccontextmanager
async def showing(
    metrics: Metrics, watch: ClockWatch, listening: asyncio.Event
) -> AsyncIterator[None]:
    """Show this process's metrics to its siblings, if there are any, from when it listens until the
    block ends."""
    task = asyncio.create_task(_show(metrics, watch, listening), name="metrics")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _show(metrics: Metrics, watch: ClockWatch, listening: asyncio.Event) -> None:
    await listening.wait()
    while metrics.joined:
        stop_if_cancelled()
        metrics.clock_ahead.set(watch.ahead.total_seconds())
        try:
            metrics.joined.publish()
        except ValueError:  # too many
            logger.warning("the other API processes do not see this one's metrics", exc_info=True)
        await asyncio.sleep(PUBLISH_SECONDS)
