"""The group-commit writer: all appends that wait in this process go to the database as one
statement.

An idle writer sends at once; while a statement runs, appends gather and share the next one. When
many gather, they do not wait for its end but are sent behind it, so that one batch is prepared
while the server works on the other. See docs/log.md.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import chain

from eventstore.append.batch import Batch, Touched
from eventstore.append.pending import Pending
from eventstore.append.sender import Sender
from eventstore.database.connections import Watch
from eventstore.history import History
from eventstore.log import Appended, LogUnavailable
from eventstore.precedence import Precedence
from kit.background import background_task

MAX_BATCH = 512
"""Appends per statement: a larger batch gains nothing, and its callers wait longer."""

MAX_BATCH_BYTES = 8 << 20
"""Bytes of events per statement: a larger append goes alone, so that it does not delay others."""

OVERLAP = 16
"""How many waiting appends are sent behind a running batch; fewer wait for its end, to share a
commit with more."""

APPEND_TIMEOUT_SECONDS = 3.0
"""How long an append waits for a lost database, or for the log's end held by others, before it
fails."""

STUCK_SECONDS = 15.0
"""How long after its patience an append must have an outcome: all waits on its way have ended by
then."""


class GroupCommitWriter:
    """One writer per process, with at most two batches under way."""

    def __init__(
        self,
        url: str,
        kinds: Mapping[str, str],
        history: History,
        clock_tolerance: timedelta | None,
        watch: Watch | None = None,
        precedence: Precedence | None = None,
    ) -> None:
        """As `Sender`."""
        self._sender = Sender(url, kinds, history, clock_tolerance, watch, precedence)
        self._waiting: list[Pending] = []
        # at most two tasks, with their batches
        self._sending: dict[asyncio.Task[None], Sequence[Pending]] = {}
        self._held_back = 0  # of those that wait, for the batch under way
        self._closed = False
        # looked up once: in Python 3.11 each look-up costs a system call
        self._loop = asyncio.get_running_loop()
        history.when_it_changes(self._forget)

    def append(self, pending: Pending) -> asyncio.Future[Appended]:
        """Queue an append. The future has its outcome, or raises as Log.append. Raises
        LogUnavailable when closed."""
        if self._closed:
            raise LogUnavailable("the log is closed")
        pending.future = self._loop.create_future()
        pending.deadline = self._loop.time() + APPEND_TIMEOUT_SECONDS
        self._waiting.append(pending)
        for flight in pending.flight.rests_on:
            flight.when_over(self._start)  # it may fail before it comes here
        self._start()
        return pending.future

    async def prove(self) -> None:
        """Check, without appending, that an append would be accepted. Raises LogUnavailable,
        psycopg.Error."""
        now = self._loop.time()
        for pending in chain(self._waiting, *self._sending.values()):
            if not pending.future.done() and now > pending.deadline + STUCK_SECONDS:
                raise LogUnavailable("appends wait, and are not answered")
        await self._sender.prove()

    async def close(self) -> None:
        """Accept no more appends, finish the waiting ones (for a bounded time), then close the
        connections."""
        self._closed = True
        if self._sending:
            await asyncio.wait(self._sending, timeout=2 * APPEND_TIMEOUT_SECONDS)
            for task in list(self._sending):
                task.cancel()
            await asyncio.gather(*self._sending, return_exceptions=True)
        await self._sender.close()

    def _forget(self) -> None:
        """Mark everything that waits as decided on a lost history."""
        for pending in chain(self._waiting, *self._sending.values()):
            pending.void = True

    def _start(self) -> None:
        """Start a task if enough appends wait; it takes them when it first runs."""
        if not self._sending or (len(self._sending) == 1 and self._enough_wait()):
            task = background_task(self._run(), "log-writer")
            self._sending[task] = ()

    def _enough_wait(self) -> bool:
        """Whether enough appends wait that need not wait for the batch under way."""
        return len(self._waiting) - self._held_back >= OVERLAP

    async def _run(self) -> None:
        """Send batches while enough appends wait for this task."""
        task = asyncio.current_task()
        assert task is not None
        try:
            while batch := self._take():
                self._sending[task] = batch
                self._start()  # another task may take the rest
                try:
                    await self._sender.send(batch)
                except Exception as error:
                    # the writer survives any failure of a batch; its callers get the error
                    for pending in batch:
                        pending.failed(error)
                self._sending[task] = ()
                self._held_back = 0
                if self._sender.away is not None:
                    self._fail_late(self._sender.away)
        except asyncio.CancelledError:  # stopped half-way: no caller may wait for ever
            for pending in (*self._sending[task], *self._waiting):
                pending.failed(LogUnavailable("the log was closed"))
            self._waiting = []
            raise
        finally:
            del self._sending[task]

    def _fail_late(self, error: Exception) -> None:
        """Fail the appends whose patience ended while they waited behind a failed batch."""
        now, late = self._loop.time(), self._waiting
        self._waiting = [pending for pending in late if pending.deadline >= now]
        for pending in late:
            if pending.deadline < now:
                pending.failed(error)

    def _take(self) -> list[Pending]:
        """The next batch: the first waiting appends, except those that rest on, or touch, what is
        already under way."""
        under_way = Touched(chain(*self._sending.values()))
        size = MAX_BATCH
        if any(self._sending.values()):
            if not self._enough_wait():
                return []
        elif len(self._waiting) >= 2 * OVERLAP:  # the other half follows behind
            size = min(MAX_BATCH, len(self._waiting) // 2)
        batch = Batch()
        left: list[Pending] = []
        waiting = iter(self._waiting)
        for pending in waiting:
            if pending.future.done():  # its caller has gone
                pending.flight.fail()
            elif pending.fail_with_predecessor():
                pass
            elif batch.awaits(pending):
                left.append(pending)
            elif not (under_way.is_free_for(pending) and batch.fits(pending)):
                left.append(pending)
                under_way.add(pending)  # to keep a stream's appends in order
            elif batch.appends and batch.size + pending.size > MAX_BATCH_BYTES:
                left.append(pending)
                break
            else:
                batch.add(pending)
                if len(batch.appends) == size:
                    break
        self._held_back = len(left)
        self._waiting = [*left, *waiting]
        return batch.appends
