"""Firing deadlines: when one is due, its command runs, once per deadline."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from commands.caller import SYSTEM, Caller
from domain.errors import Refused
from domain.ids import derived
from eventstore.log import AlreadyDone, IdempotencyKey
from kit.cancellation import stop_if_cancelled
from kit.clock import Clock

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2

BATCH_SIZE = 500
"""How many deadlines are fired together, beside those that were fired before and are still due."""


class DueDeadline(Protocol):
    """A deadline of a stream that has passed. `version` tells a moved deadline from the one
    before."""

    @property
    def stream_id(self) -> UUID: ...

    @property
    def kind(self) -> str: ...

    @property
    def version(self) -> int: ...


Fire = Callable[[Caller, UUID, IdempotencyKey], Awaitable[object]]
"""The command of a deadline: called with the caller, the stream, and the idempotency key."""


class DueDeadlines(Protocol):
    """The read model of deadlines."""

    async def due(self, now: datetime, limit: int) -> Sequence[DueDeadline]: ...


class DeadlineRunner:
    """Fires due deadlines: `commands` has the command for each kind. One process leads; a repeat
    does no harm.
    """

    def __init__(self, due_times: DueDeadlines, commands: Mapping[str, Fire], clock: Clock) -> None:
        self._due_times = due_times
        self._commands = commands
        self._clock = clock
        self._trouble = ""
        self._fired: Set[UUID] = set()
        self._lingering: Set[UUID] = set()
        self._failed: Set[UUID] = set()

    async def run(self) -> None:
        """Fire deadlines as they come due, until cancelled."""
        while True:
            stop_if_cancelled()
            try:
                await self.fire()
            except Exception as error:
                # for instance at the first start, before a projector has run
                if repr(error) != self._trouble:
                    logger.warning("deadlines could not be fired; trying again: %s", error)
                self._trouble = repr(error)
            else:
                self._trouble = ""
            await asyncio.sleep(POLL_SECONDS)

    async def fire(self) -> int:
        """Fire what is due now, the longest overdue first. Returns how many succeeded. A failed one
        is tried again next time.

        Deadlines that are still due although they were fired the last time must not crowd out
        others, so as many more are fetched.
        """
        found = await self._due_times.due(self._clock.now(), BATCH_SIZE + len(self._lingering))
        due = {derived("deadline", each.stream_id, each.kind, each.version): each for each in found}
        outcomes = await asyncio.gather(
            *[self._fire(*each) for each in due.items()], return_exceptions=True
        )
        failed = {
            key: outcome for key, outcome in zip(due, outcomes, strict=True) if outcome is not None
        }
        for key in failed.keys() - self._failed:
            logger.warning(
                "deadline %s of %s failed; trying again: %r",
                due[key].kind,
                due[key].stream_id,
                failed[key],
            )
        self._lingering = due.keys() & self._fired
        self._fired = due.keys()
        self._failed = failed.keys()
        return len(due) - len(failed)

    async def _fire(self, key: UUID, deadline: DueDeadline) -> None:
        caller = msgspec.structs.replace(SYSTEM, actor="deadline")
        # fired before, or no longer due: the read model will catch up
        with contextlib.suppress(AlreadyDone, Refused):
            await self._commands[deadline.kind](caller, deadline.stream_id, IdempotencyKey(key))
