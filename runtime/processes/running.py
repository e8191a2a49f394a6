"""Run a process until it is asked to stop."""

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any

import uvloop

from runtime.processes.garbage import collect_rarely
from runtime.processes.watching import LoopWatch

logger = logging.getLogger(__name__)


def run_until_stopped(main: Coroutine[Any, Any, None]) -> None:
    """Run a process's main task until it ends, or until SIGTERM or SIGINT cancels it."""

    async def supervised() -> None:
        task = asyncio.create_task(main)
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, task.cancel)
        with LoopWatch(loop):
            try:
                await task
            except asyncio.CancelledError:
                logger.info("stopped")

    collect_rarely()
    uvloop.run(supervised())
