"""What the mail worker does with a job: render the notice, send it, record that it went."""

from uuid import UUID

from commands.aggregates import NOTICE, USER
from commands.bus import CommandBus
from commands.ports import Delivery, Mail, Mailer
from commands.reactors import on_behalf
from domain import notices
from eventstore.repository import Unit


class MailWorker:
    """Handles the jobs of the mail queue; `body` has notice_id."""

    def __init__(self, bus: CommandBus, mailer: Mailer) -> None:
        self._bus, self._mailer = bus, mailer

    async def handle(self, delivery: Delivery) -> None:
        """Send a notice once; whatever the mailer raises is tried again, and recorded as a failure after the last."""
        notice_id = UUID(delivery.job.body["notice_id"])
        notice = await self._bus.repository.state(NOTICE, notice_id)
        if notice is None or notice.status == "SENT":
            return
        user = await self._bus.repository.state(USER, notice.user_id)
        if user is None or user.status == "FORGOTTEN" or notice.params is None:
            await self._record_failure(notice_id, "recipient_unknown", delivery)
            return
        subject, text = notices.render(notice.template, notice.params)
        try:
            ref = await self._mailer.send(Mail(str(notice_id), user.email, subject, text))
        except Exception as error:
            if delivery.last:
                await self._record_failure(notice_id, type(error).__name__, delivery)
            raise

        async def decision(unit: Unit) -> None:
            current = await unit.load(NOTICE, notice_id)
            assert current is not None
            unit.emit(notice_id, notices.mark_sent(current, ref))

        await self._bus.run(decision, on_behalf("worker:mail", delivery.job))

    async def _record_failure(self, notice_id: UUID, code: str, delivery: Delivery) -> None:
        async def decision(unit: Unit) -> None:
            current = await unit.load(NOTICE, notice_id)
            assert current is not None
            unit.emit(notice_id, notices.mark_failed(current, code, delivery.attempt))

        await self._bus.run(decision, on_behalf("worker:mail", delivery.job))
