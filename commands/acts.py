"""Recording operators' acts, wherever they come from: HTTP, the command line, the console."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from commands.aggregates import ACT
from commands.caller import Caller
from commands.handler import CommandHandler
from domain import acts
from domain.acts import ActName
from domain.errors import Refused
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7
from kit.wording import described, kept

logger = logging.getLogger(__name__)


@dataclass
class ActUnderWay:
    """An act that has begun. Whoever does it sets how many things it `affected`, what else is worth
    knowing of what came of it, and an `error` where a part of it failed. `position` is that of its
    last event."""

    act_id: UUID
    position: int | None
    affected: int | None = None
    error: str | None = None
    details: dict[str, str] = field(default_factory=dict)


class ActCommands:
    """Records that acts begin, and how they end."""

    def __init__(self, handler: CommandHandler) -> None:
        self._handler = handler

    async def begin(
        self,
        caller: Caller,
        act: ActName,
        *,
        target: str | None = None,
        reason: str | None = None,
        details: Mapping[str, str] | None = None,
    ) -> ActUnderWay:
        """Record that an act begins; only then may it be done. Raises Invalid, and whatever an
        append raises."""
        act_id = uuid7()
        begun = acts.begin(act, target=target, reason=reason, details=details or {})

        async def decision(unit: UnitOfWork) -> None:
            unit.create(ACT, act_id, begun)

        return ActUnderWay(act_id, (await self._handler.handle(decision, caller)).position)

    async def end(self, caller: Caller, act: ActUnderWay, error: str | None = None) -> None:
        """Record how an act ended. Raises whatever an append raises."""
        affected, error = act.affected, error or act.error
        details = {name: kept(text) for name, text in act.details.items()}

        async def decision(unit: UnitOfWork) -> None:
            state = await unit.load(ACT, act.act_id)
            unit.emit(act.act_id, acts.end(state, affected=affected, error=error, details=details))

        act.position = (await self._handler.handle(decision, caller)).position or act.position

    @asynccontextmanager
    async def recorded(
        self,
        caller: Caller,
        act: ActName,
        *,
        target: str | None = None,
        reason: str | None = None,
        details: Mapping[str, str] | None = None,
    ) -> AsyncIterator[ActUnderWay]:
        """Do an act in the body, between its two records: what the body raises is its error.

        Raises as `begin`, before the body. If the end cannot be recorded, the act is done all the
        same, and stays one that was begun. A body that is cancelled may be done or not: nothing is
        recorded of its end.
        """
        begun = await self.begin(caller, act, target=target, reason=reason, details=details)
        try:
            yield begun
        except Exception as error:
            await self._end_if_possible(caller, begun, _worded(error))
            raise
        await self._end_if_possible(caller, begun, None)

    async def _end_if_possible(self, caller: Caller, act: ActUnderWay, error: str | None) -> None:
        try:
            await self.end(caller, act, error)
        except Exception as failure:  # whatever keeps the log from taking it
            logger.warning("how act %s ended is not recorded: %r", act.act_id, failure)


def _worded(error: Exception) -> str:
    return error.code if isinstance(error, Refused) else described(error)
