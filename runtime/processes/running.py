"""Run a process until it is asked to stop, and see that it ends in time."""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any

import uvloop

from runtime.processes.garbage import collect_rarely
from runtime.processes.watching import LoopWatch

logger = logging.getLogger(__name__)

STOP_SECONDS = 10.0
"""How long a process that is asked to stop may take to finish what is under way."""

TOGETHER_SECONDS = 2.0
"""Signals within this time are one request: a service manager signals all processes of a service,
and `ludoteca run` passes on what it got."""

_FAILED = 70  # EX_SOFTWARE


def run_until_stopped(main: Coroutine[Any, Any, None]) -> None:
    """Run a process's main task until it ends, or until SIGTERM or SIGINT cancels it."""

    async def supervised() -> None:
        task = asyncio.create_task(main)
        loop = asyncio.get_running_loop()

        def stop() -> None:
            with suppress(RuntimeError):  # the loop is closed: it ends by itself
                loop.call_soon_threadsafe(task.cancel)

        when_asked_to_stop(stop)
        with LoopWatch(loop):
            try:
                await task
            except asyncio.CancelledError:
                logger.info("stopped")

    collect_rarely()
    uvloop.run(supervised())


def when_asked_to_stop(stop: Callable[[], object], seconds: float = STOP_SECONDS) -> None:
    """Call `stop` at the first SIGTERM or SIGINT. The process ends at once when it is asked again,
    or has not ended after these seconds, whatever it waits for."""
    asked_at: list[float] = []
    asked = threading.Event()

    def hear(number: int, _frame: FrameType | None) -> None:
        if not asked_at:
            asked_at.append(time.monotonic())
            asked.set()
            stop()
        elif time.monotonic() - asked_at[0] > TOGETHER_SECONDS:
            os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hear)
    # started now: the handler of a signal may interrupt whoever holds a lock that a start needs
    threading.Thread(
        target=_end_in_time, args=(asked, seconds), name="end-in-time", daemon=True
    ).start()


def _end_in_time(asked: threading.Event, seconds: float) -> None:
    asked.wait()
    time.sleep(seconds)
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    logger.critical(
        "it has not ended %.0f s after it was asked to stop, and ends at once. It stands at\n%s",
        seconds,
        "".join(traceback.format_stack(main)),
    )
    time.sleep(0.5)  # give the line time to be written, but do not depend on it
    os._exit(_FAILED)
