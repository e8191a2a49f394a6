"""Ends a process that can no longer work although a new one could, so that its supervisor restarts
it."""

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from eventstore.postgres_log import PostgresLog

logger = logging.getLogger(__name__)

WRITER_SECONDS = 10.0
"""How long a writer may fail while a new one would work, before its process ends."""

LOOP_SECONDS = 30
"""How long an event loop may be blocked before its process ends."""

_LOOK_SECONDS, _PROOF_SECONDS, _END_SECONDS = 2.0, 5.0, 20.0
_FAILED = 70  # EX_SOFTWARE


class WriterDead(Exception):
    """This process cannot append to the log, though a new one could."""


@asynccontextmanager
async def watch_writer(log: PostgresLog) -> AsyncIterator[None]:
    """Watch the log's writer while the block runs. Raises an ExceptionGroup of WriterDead."""
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch(log))
        yield
        watching.cancel()


async def _watch(log: PostgresLog) -> None:
    dead_since: float | None = None
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if await _proves(log):
            dead_since = None
        elif dead_since is None:
            dead_since = time.monotonic()
        elif (
            time.monotonic() - dead_since > WRITER_SECONDS
            and await _proves(log, another=True)
            and not await _proves(log)  # the database may have come back between the two
        ):
            logger.critical(
                "the writer has been dead for %.0f s, and a new one would not be: ending",
                WRITER_SECONDS,
            )
            # in case an orderly end hangs
            asyncio.get_running_loop().call_later(_END_SECONDS, os._exit, _FAILED)
            raise WriterDead(
                "this process cannot append to the log any more, though a new one could"
            )


async def _proves(log: PostgresLog, *, another: bool = False) -> bool:
    try:
        async with asyncio.timeout(_PROOF_SECONDS):
            await log.prove_writer(another=another)
    except Exception as error:  # whatever was raised, the writer does not work
        logger.debug("no writer: %r", error)
        return False
    return True


class LoopWatch:
    """A thread that ends the process when its event loop is blocked: `with LoopWatch(loop): …`.

    It counts its own seconds, so that a process that was suspended as a whole and resumed is not
    taken for one with a blocked loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: int = LOOP_SECONDS) -> None:
        self._loop = loop
        self._seconds = seconds
        self._turns = 0
        self._stopped = threading.Event()
        self._of_loop = threading.get_ident()

    def __enter__(self) -> Self:
        self._turn()
        threading.Thread(target=self._watch, name="loop-watch", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()

    def _turn(self) -> None:
        self._turns += 1
        self._loop.call_later(1, self._turn)

    def _watch(self) -> None:
        seen, still = 0, 0
        while not self._stopped.wait(1):
            still = still + 1 if self._turns == seen else 0
            seen = self._turns
            if still >= self._seconds:
                stack = "".join(traceback.format_stack(sys._current_frames().get(self._of_loop)))
                logger.critical(
                    "the event loop has stood still for %s s: ending. It stands at\n%s",
                    still,
                    stack,
                )
                time.sleep(1)  # give the line time to be written, but do not depend on it
                os._exit(_FAILED)
