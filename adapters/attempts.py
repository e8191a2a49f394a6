"""What every work queue does alike: how often a job is tried, how one attempt is made, how its failure is worded."""

import asyncio
from collections.abc import Sequence

from commands.ports import Delivery, JobHandler

BACKOFF: Sequence[float] = (0.5, 2, 8, 30)
"""Seconds to wait after each failed attempt; a job is attempted once more than there are waits."""

WORKER_LOST = "the worker was lost during the last attempt"

_ERROR_LENGTH = 2000


async def attempt(handler: JobHandler, delivery: Delivery) -> str | None:
    """Hand the job over once. Returns what went wrong, None when nothing did; raises only when itself cancelled."""
    try:
        await handler(delivery)
    except Exception as error:
        return describe(error)
    except asyncio.CancelledError as error:
        stop_if_cancelled()
        return describe(error)  # something within the handler was cancelled, not the worker
    return None


def stop_if_cancelled() -> None:
    """Raise CancelledError when the current task has been told to stop.

    Loops for ever need this: Python 3.11's `wait_for`, which libraries use, can swallow a cancellation that comes in
    the same moment as what it waits for.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def describe(error: BaseException) -> str:
    """An error in a line or a few, fit for any store: no NUL, no lone surrogates, at most 2,000 characters."""
    text = f"{type(error).__name__}: {error}".encode("utf-8", "replace").decode()
    return text.replace("\x00", "�")[:_ERROR_LENGTH]
