"""Recording operators' acts, wherever they come from: HTTP, the command line, the console."""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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

Hold = Callable[[Collection[UUID]], AbstractAsyncContextManager[None]]
"""Shows to all processes that these acts are under way, for as long as this process lives
(`eventstore.database.under_way`)."""


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


@dataclass(frozen=True)
class Asked:
    """What an operator wants to do to one thing."""

    target: str | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    act_id: UUID = field(default_factory=uuid7)


class ActCommands:
    """Records that acts begin, and how they end."""

    def __init__(self, handler: CommandHandler, hold: Hold) -> None:
        self._handler = handler
        self._hold = hold

    async def begin(
        self, caller: Caller, act: ActName, reason: str | None, *asked: Asked
    ) -> list[ActUnderWay]:
        """Record that an act begins, on each thing that is asked for; only then may it be done. The
        caller holds it. Raises Invalid, and whatever an append raises."""
        begun = [
            acts.begin(act, target=each.target, reason=reason, details=each.details)
            for each in asked
        ]

        async def decision(unit: UnitOfWork) -> None:
            for each, events in zip(asked, begun, strict=True):
                unit.create(ACT, each.act_id, events)

        position = (await self._handler.handle(decision, caller)).position
        return [ActUnderWay(each.act_id, position) for each in asked]

    async def end(
        self, caller: Caller, under_way: Sequence[ActUnderWay], error: str | None = None
    ) -> None:
        """Record how acts ended; `error` is that of all. Raises whatever an append raises."""

        async def decision(unit: UnitOfWork) -> None:
            for act in under_way:
                state = await unit.load(ACT, act.act_id)
                details = {name: kept(text) for name, text in act.details.items()}
                wrong = error or act.error
                ended = acts.end(state, affected=act.affected, error=wrong, details=details)
                unit.emit(act.act_id, ended)

        position = (await self._handler.handle(decision, caller)).position
        for act in under_way:
            act.position = position or act.position

    async def give_up(self, caller: Caller, act_id: UUID) -> None:
        """Record of an act that nobody saw it end. Raises whatever an append raises."""
        await self.end(caller, [ActUnderWay(act_id, None)], acts.INTERRUPTED)

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
        """As `all_recorded`, for one thing."""
        async with self.all_recorded(caller, act, reason, Asked(target, details or {})) as begun:
            yield begun[0]

    @asynccontextmanager
    async def all_recorded(
        self, caller: Caller, act: ActName, reason: str | None, *asked: Asked
    ) -> AsyncIterator[list[ActUnderWay]]:
        """Do an act to some things in the body, between its two records of each: what the body
        raises is the error of all.

        Raises as `begin`, before the body. If the end cannot be recorded, the act is done all the
        same. A body that is cancelled may be done or not. Of both, nothing is recorded here: that
        nobody saw them end is for others to find (`runtime.processes.lost_acts`).
        """
        async with self._hold([each.act_id for each in asked]):
            begun = await self.begin(caller, act, reason, *asked)
            try:
                yield begun
            except Exception as error:
                await self._end_if_possible(caller, begun, _worded(error))
                raise
            await self._end_if_possible(caller, begun, None)

    async def _end_if_possible(
        self, caller: Caller, begun: Sequence[ActUnderWay], error: str | None
    ) -> None:
        try:
            await self.end(caller, begun, error)
        except Exception as failure:  # whatever keeps the log from taking it
            named = ", ".join(str(each.act_id) for each in begun)
            logger.warning("how act %s ended is not recorded: %r", named, failure)


def _worded(error: Exception) -> str:
    return error.code if isinstance(error, Refused) else described(error)
