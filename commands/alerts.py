"""Alerts: raised once and resolved once, however many processes see the same; acknowledged by
one."""

from uuid import UUID

from commands.aggregates import ALERT
from commands.caller import SYSTEM, Caller
from commands.handler import CommandHandler, CommandResult
from domain import alerts
from domain.alerts import Seen
from eventstore.unit_of_work import UnitOfWork


class AlertCommands:
    def __init__(self, handler: CommandHandler) -> None:
        self._handler = handler

    async def raise_alert(self, seen: Seen, caller: Caller = SYSTEM) -> bool:
        """Raise an alert. Returns False while it is raised already."""

        async def decision(unit: UnitOfWork) -> None:
            known = await unit.load(ALERT, seen.alert_id)
            unit.emit(seen.alert_id, alerts.raise_alert(known, seen))

        return (await self._handler.handle(decision, caller)).position is not None

    async def resolve(self, alert_id: UUID, caller: Caller = SYSTEM) -> bool:
        """Resolve an alert. Returns False unless it is raised."""

        async def decision(unit: UnitOfWork) -> None:
            unit.emit(alert_id, alerts.resolve(await unit.load(ALERT, alert_id)))

        return (await self._handler.handle(decision, caller)).position is not None

    async def acknowledge(self, caller: Caller, alert_id: UUID, note: str) -> CommandResult[None]:
        """Look after an alert (ADMIN). Raises Forbidden("role_required"),
        NotFound("alert_not_found"), and as `domain.alerts.acknowledge`."""
        caller.must_be_admin()

        async def decision(unit: UnitOfWork) -> None:
            unit.emit(alert_id, alerts.acknowledge(await unit.get(ALERT, alert_id), note))

        return await self._handler.handle(decision, caller)
