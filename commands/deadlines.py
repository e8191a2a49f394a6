"""Nothing unpaid stays so for ever: fires the command when a deadline is due, once per deadline."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from commands.bus import SYSTEM, Caller
from domain.errors import Refused
from domain.ids import derived
from eventstore.clock import Clock
from eventstore.log import AlreadyDone, Once

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2


class Deadline(Protocol):
    """When a stream must have moved on. `version` tells a moved deadline from the one before."""

    @property
    def stream_id(self) -> UUID: ...

    @property
    def kind(self) -> str: ...

    @property
    def version(self) -> int: ...


Fire = Callable[[Caller, UUID, Once], Awaitable[object]]
"""The command of a deadline: who asks, whose deadline it is, and the key under which it is done once."""


class DueTimes(Protocol):
    """The projection of due times."""

    async def due(self, now: datetime, limit: int) -> Sequence[Deadline]: ...


class Deadlines:
    """Fires what is due, on the clock it is given: `commands` has one for each kind of deadline. One process leads; a
    repeat does no harm.
    """

    def __init__(self, due_times: DueTimes, commands: Mapping[str, Fire], clock: Clock) -> None:
        self._due_times, self._commands, self._clock = due_times, commands, clock
        self._trouble = ""

    async def run(self) -> None:
        """Fire deadlines as they come due, until cancelled."""
        while True:
            try:
                await self.fire()
            except Exception as error:
                if repr(error) != self._trouble:  # at the first start, for instance: no projector has run yet
                    log.warning("deadlines could not be fired; trying again: %s", error)
                self._trouble = repr(error)
            else:
                self._trouble = ""
            await asyncio.sleep(POLL_SECONDS)

    async def fire(self) -> int:
        """Fire all that is due now; returns how many."""
        due = await self._due_times.due(self._clock.now(), 500)
        await asyncio.gather(*[self._fire(deadline) for deadline in due])
        return len(due)

    async def _fire(self, deadline: Deadline) -> None:
        key = derived("deadline", deadline.stream_id, deadline.kind, deadline.version)
        caller = msgspec.structs.replace(SYSTEM, actor="deadline")
        with contextlib.suppress(AlreadyDone, Refused):  # fired before, or moved on: the projection is about to say so
            await self._commands[deadline.kind](caller, deadline.stream_id, Once(key))
