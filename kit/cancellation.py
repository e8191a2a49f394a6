"""Being told to stop, and hearing it."""

import asyncio


def stop_if_cancelled() -> None:
    """Raise CancelledError when the current task has been told to stop.

    Loops for ever need this: Python 3.11's `wait_for`, which libraries use, can swallow a cancellation that comes in
    the same moment as what it waits for.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
