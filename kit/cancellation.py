"""Make cancellation reliable."""

import asyncio

NEEDLESS = "its outcome is of no use any more"
"""The message of a cancellation that says nothing about what the task was waiting for."""


def stop_if_cancelled() -> None:
    """Raise CancelledError when the current task was asked to stop.

    Endless loops need this: Python 3.11's `wait_for`, which libraries use, can swallow a
    cancellation that arrives at the same moment as the awaited result.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
