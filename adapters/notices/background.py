"""Work beside the requests: a repeated step, and the alarm it waits for."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from kit.cancellation import stop_if_cancelled

logger = logging.getLogger(__name__)


class Alarm:
    """Wakes its waiter when rung or at a set time, whichever is first. A ring without a waiter is
    kept."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, until: float | None) -> None:
        """Return when rung or at `until` (unix seconds; None: only when rung)."""
        try:
            async with asyncio.timeout(None if until is None else max(0.0, until - time.time())):
                await self._rung.wait()
        except TimeoutError:
            pass
        self._rung.clear()


async def repeat(step: Callable[[], Awaitable[None]]) -> None:
    """Repeat a step until cancelled. A failure is logged, and the step repeated: its work is still
    due."""
    while True:
        stop_if_cancelled()
        try:
            await step()
        except Exception:
            logger.exception("a background step failed; trying again in a second")
            await asyncio.sleep(1)
