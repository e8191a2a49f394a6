"""What the steps of the payment worker share: they append decisions, and write lines of the text
log."""

from collections.abc import Callable
from uuid import UUID

from commands.aggregates import PAYMENT
from commands.handler import CommandHandler
from commands.ports.queue import JobAttempt
from commands.ports.text_log import TextLog
from commands.reactors.reactor import on_behalf
from domain.events import Event
from domain.payments import Payment
from eventstore.unit_of_work import UnitOfWork

Decide = Callable[[Payment], list[Event]]

UNKNOWN = "resource_missing"
"""The provider's code for an intent or a refund that it does not have."""


class PaymentRecords:
    """Records what the worker does about payments."""

    def __init__(self, handler: CommandHandler, text_log: TextLog) -> None:
        self._handler = handler
        self._text_log = text_log

    async def record(self, attempt: JobAttempt, payment_id: UUID, decide: Decide) -> None:
        """Append what is decided on the payment as it is now, on the job's behalf."""

        async def decision(unit: UnitOfWork) -> None:
            payment = await unit.get(PAYMENT, payment_id)
            unit.emit(payment_id, decide(payment))

        await self._handler.handle(decision, on_behalf("worker:payments", attempt.job))

    def note(self, step: str, attempt: JobAttempt, payment_id: UUID, **more: object) -> None:
        """Write a line of the text log."""
        self._text_log.write(
            step,
            kind=attempt.job.kind,
            payment=payment_id,
            job=attempt.job.id,
            attempt=attempt.number,
            **more,
        )
