"""Recording what the shop's audit of itself finds: each finding opens once, and is resolved once it
is gone, however many processes look."""

from uuid import UUID

from commands.aggregates import FINDING
from commands.caller import SYSTEM
from commands.handler import CommandHandler
from domain import findings
from eventstore.unit_of_work import UnitOfWork


class FindingCommands:
    def __init__(self, handler: CommandHandler) -> None:
        self._handler = handler

    async def open(self, invariant: str, subject: str, detail: str, at: int) -> bool:
        """Open a finding, as seen at a log position. Returns False when it is open already."""
        finding_id = findings.finding_id(invariant, subject)

        async def decision(unit: UnitOfWork) -> None:
            known = await unit.load(FINDING, finding_id)
            opened = findings.open_finding(
                known, invariant=invariant, subject=subject, detail=detail, at=at
            )
            unit.emit(finding_id, opened)

        return (await self._handler.handle(decision, SYSTEM)).position is not None

    async def resolve(self, finding_id: UUID, at: int) -> bool:
        """Resolve a finding, as seen at a log position. Returns False unless it is open."""

        async def decision(unit: UnitOfWork) -> None:
            unit.emit(finding_id, findings.resolve(await unit.load(FINDING, finding_id), at))

        return (await self._handler.handle(decision, SYSTEM)).position is not None
