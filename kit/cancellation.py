"""Make cancellation reliable.

Two things lose a cancellation in Python 3.11: `wait_for`, which libraries use, returns a result
that arrives at the same moment; and a task group whose tasks fail at the same moment raises their
errors instead. A loop that handles these errors and goes on never ends.

One thing makes a cancellation up: a task group of which a task fails while it waits for the others
leaves its own task marked as cancelled. A loop that goes on after that runs the group in a task of
its own.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic
from typing import Any

NEEDLESS = "its outcome is of no use any more"
"""The message of a cancellation that says nothing about what the task was waiting for."""


def cancellations() -> int:
    """How often the current task was asked to stop."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def stop_if_cancelled(since: int = 0) -> None:
    """Raise CancelledError when the current task was asked to stop, more often than `since` times.

    Every endless loop that goes on after errors calls it.
    """
    if cancellations() > since:
        raise asyncio.CancelledError


async def cancelled(tasks: Iterable[asyncio.Task[Any] | None]) -> list[Any]:
    """Cancel the tasks, and return how they ended: a result or an exception each."""
    present = [task for task in tasks if task is not None]
    for task in present:
        task.cancel()
    return await asyncio.gather(*present, return_exceptions=True)


async def cancel_until_ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel until the tasks end: a library may mistake a cancellation for its own and go on."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1)


async def let_end(tasks: Iterable[asyncio.Task[None]], seconds: float) -> None:
    """Let the tasks end by themselves for some seconds, also if the caller is cancelled meanwhile;
    then cancel them until they end."""
    end, left = monotonic() + seconds, set(tasks)
    while left := {task for task in left if not task.done()}:
        if (seconds := end - monotonic()) <= 0:
            break
        with suppress(asyncio.CancelledError):
            await asyncio.wait(left, timeout=seconds)
    await cancel_until_ended(left)
