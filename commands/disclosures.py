"""Recording that personal data is handed out as evidence: who did it, of what, about whom, why."""

from collections.abc import Iterable
from uuid import UUID

from commands.aggregates import DISCLOSURE
from commands.caller import Caller
from commands.handler import CommandHandler
from domain import disclosures
from eventstore.unit_of_work import UnitOfWork
from kit.uuid7 import uuid7


class DisclosureCommands:
    def __init__(self, handler: CommandHandler) -> None:
        self._handler = handler

    async def disclose(
        self, caller: Caller, kind: str, subject_id: UUID, persons: Iterable[UUID], reason: str
    ) -> UUID:
        """Record a disclosure; whoever makes it does so afterwards. Returns its id. Raises
        Invalid."""
        disclosure_id = uuid7()
        made = disclosures.disclose(kind, subject_id, tuple(sorted(persons)), reason)

        async def decision(unit: UnitOfWork) -> None:
            await unit.load(DISCLOSURE, disclosure_id)
            unit.emit(disclosure_id, made)

        await self._handler.handle(decision, caller)
        return disclosure_id
