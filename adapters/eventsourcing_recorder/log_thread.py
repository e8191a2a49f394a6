"""The log for threads: its event loop runs in a thread of its own, which others call."""

import asyncio
import os
from collections.abc import Coroutine
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Any, TypeVar

import uvloop
from eventsourcing.persistence import InterfaceError

from adapters.eventsourcing_recorder.errors import translated
from adapters.eventsourcing_recorder.opaque_log import OpaqueLog
from eventstore.codec import Codec

Result = TypeVar("Result")

CLOSE_SECONDS = 15.0
"""How long closing waits for the appends under way: as long as they have patience, and more."""


class LogThread:
    """One log, open from the beginning until `close`. Every thread may call it: appends that wait
    at the same time share a commit."""

    def __init__(self, url: str, pool_size: int) -> None:
        """Raises OperationalError when the database cannot be reached."""
        self._url = url
        self._pool_size = pool_size
        self._scheduling = Lock()
        self._closed = False
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop
        self._closing: asyncio.Event
        opened: Future[OpaqueLog] = Future()
        self._thread = Thread(target=self._run, args=(opened,), name="ludoteca-log", daemon=True)
        self._thread.start()
        with translated():
            self.log = opened.result()

    def call(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run it on the log's loop, and wait. Raises the library's errors; InterfaceError once
        closed."""
        with translated():
            return self.start(work).result()

    def start(self, work: Coroutine[Any, Any, Result]) -> "Future[Result]":
        """Start it on the log's loop. Raises InterfaceError once closed, and in a forked process,
        which does not have the loop's thread."""
        if os.getpid() != self._process:
            work.close()
            raise InterfaceError("the log was opened before a fork: make the application after it")
        with self._scheduling:  # what is scheduled before the end is started, or cancelled there
            if self._closed:
                work.close()
                raise InterfaceError("the log was closed")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Finish the appends under way, and end the thread. No-op if closed."""
        with self._scheduling:
            if not self._closed:
                self._closed = True
                self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(CLOSE_SECONDS)

    def _run(self, opened: "Future[OpaqueLog]") -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._keep_open(opened))
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)

    async def _keep_open(self, opened: "Future[OpaqueLog]") -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        async with OpaqueLog.open(self._url, Codec({}), pool_size=self._pool_size) as log:
            opened.set_result(log)
            await self._closing.wait()
