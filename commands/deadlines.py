"""Nothing unpaid stays so for ever: fires the command when a deadline is due, once per deadline."""

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
"""How many deadlines are fired together, beside those that were fired before and are due still."""


class DueDeadline(Protocol):
    """When a stream must have moved on. `version` tells a moved deadline from the one before."""

    @property
    def stream_id(self) -> UUID: ...

    @property
    def kind(self) -> str: ...

    @property
    def version(self) -> int: ...


Fire = Callable[[Caller, UUID, IdempotencyKey], Awaitable[object]]
"""The command of a deadline: who asks, whose deadline it is, and the key under which it is done
once."""


class DueDeadlines(Protocol):
    """The projection of due times."""

    async def due(self, now: datetime, limit: int) -> Sequence[DueDeadline]: ...


class DeadlineRunner:
    """Fires what is due, on the clock it is given: `commands` has one for each kind of deadline.
    One process leads; a repeat does no harm.
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
                # at the first start, for instance: no projector has run yet
                if repr(error) != self._trouble:
                    logger.warning("deadlines could not be fired; trying again: %s", error)
                self._trouble = repr(error)
            else:
                self._trouble = ""
            await asyncio.sleep(POLL_SECONDS)

    async def fire(self) -> int:
        """Fire what is due now, the longest overdue first; returns how many. One that fails is
        tried again next time.

        What is due still, though it was fired the last time, takes nobody's place: so many more are
        asked for.
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
        # fired before, or moved on: the projection is about to say so
        with contextlib.suppress(AlreadyDone, Refused):
            await self._commands[deadline.kind](caller, deadline.stream_id, IdempotencyKey(key))
