"""Deadlines for what others answer, which a busy process does not use up by itself."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TICK_SECONDS = 0.05


@asynccontextmanager
async def answered_within(seconds: float) -> AsyncIterator[None]:
    """As `asyncio.timeout`, but counts only the time in which the event loop looks for answers.

    A delayed loop sees answers late. So time is counted in ticks, of which each round of the loop
    counts one at most, however long it took. Raises TimeoutError.
    """
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def count(left: int) -> None:
        nonlocal timer
        if left:
            timer = loop.call_later(TICK_SECONDS, count, left - 1)
        else:
            timeout.reschedule(loop.time())

    async with asyncio.timeout(None) as timeout:
        count(math.ceil(seconds / TICK_SECONDS))
        try:
            yield
        finally:
            timer.cancel()
