"""A deadline for an answer counts the time in which this process looks for it."""

import asyncio
import time

import pytest

from kit.deadlines import TICK_SECONDS, answered_within


async def test_a_late_answer_raises_timeout_error() -> None:
    with pytest.raises(TimeoutError):
        async with answered_within(2 * TICK_SECONDS):
            await asyncio.Event().wait()


async def test_a_loop_that_is_busy_does_not_use_up_the_time() -> None:
    async with answered_within(2 * TICK_SECONDS):
        keep_busy(5 * TICK_SECONDS)
        await asyncio.sleep(0)  # the answer is there, and so is the deadline of a clock


def keep_busy(seconds: float) -> None:
    """Let nothing else run in this thread."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
