"""The notification worker: renders a notification, hands it to its transport, and records the
outcome."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping
from time import monotonic
from uuid import UUID

from commands.aggregates import NOTIFICATION, USER
from commands.handler import CommandHandler
from commands.ports.notifications import Message, MessageTransport, NotDelivered
from commands.ports.queue import JobAttempt, JobWorker
from commands.reactors.reactor import on_behalf
from domain import email_addresses, identity, notification_texts, notifications
from domain.notification_texts import Channel
from domain.notifications import Notification
from eventstore.database.patience import outlast
from eventstore.unit_of_work import UnitOfWork
from kit import tracing

UNVERIFIED_AN_HOUR = 20
"""Mails per hour to an unverified address: whoever opened the account may have named a stranger's
address, and may do any number of things that send mail to it."""

HOUR = 3600.0

PAGES: Mapping[str, str] = {
    "welcome": "verify-email",
    "verification": "verify-email",
    "password_reset": "reset-password",
    "email_changed": "reset-password",
    "password_changed": "reset-password",
}
"""Where the shop takes the token of a mail, by template."""


class NotificationWorker(JobWorker):
    """Handles the jobs of the notification queue. Their `body` has notice_id. `shop_url` is where
    people reach the shop; without it, mails have codes and no links."""

    def __init__(
        self,
        handler: CommandHandler,
        transports: Mapping[Channel, MessageTransport],
        shop_url: str = "",
    ) -> None:
        self._handler = handler
        self._transports = transports
        self._shop_url = shop_url.rstrip("/")
        self._unverified = _MailsOfHour()

    async def handle(self, attempt: JobAttempt) -> None:
        """Send a notification, unless it was sent already. After an exception the job is retried;
        the last attempt records a failure. A job that is redriven later still sends it.

        If the worker dies between sending and recording, the same message is sent again.
        """
        notification_id = UUID(attempt.job.body["notice_id"])
        requested = await self._handler.cached(NOTIFICATION, notification_id)
        if requested is None:
            return
        # A first attempt may be a repeated one, too: a job may be published twice, or redriven.
        notification, user = await asyncio.gather(
            self._handler.state(NOTIFICATION, notification_id),
            self._handler.state(USER, requested.user_id),
        )
        if notification is None or notification.is_over:
            return
        if user is None or user.status == "FORGOTTEN" or notification.params is None:
            await self._record_failure(notification_id, "recipient_unknown", attempt)
            return
        params = self._linked(notification.template, notification.params)
        message = _message(notification_id, notification, params, user)
        if email_addresses.is_unreachable(message.email):
            await self._record_failure(notification_id, "recipient_unreachable", attempt)
            return
        if (
            not _is_known(notification, message.email, user)
            and attempt.number == 1
            and not self._unverified.may_go(message.email.casefold())
        ):
            await self._record_failure(notification_id, "recipient_unverified", attempt)
            return
        try:
            with tracing.span(f"send {notification.channel}", kind="client"):
                reference = await self._transports[notification.channel].send(message)
        except Exception as error:
            if attempt.last:
                code = error.code if isinstance(error, NotDelivered) else "internal_error"
                await self._record_failure(notification_id, code, attempt)
            raise
        await self._record_sent(notification_id, reference, attempt)

    def _linked(self, template: str, params: Mapping[str, str]) -> Mapping[str, str]:
        """The parameters, with a link to the page that takes the token."""
        if not self._shop_url or template not in PAGES or "token" not in params:
            return params
        return {**params, "link": f"{self._shop_url}/{PAGES[template]}?token={params['token']}"}

    async def _record_sent(
        self, notification_id: UUID, reference: str, attempt: JobAttempt
    ) -> None:
        async def decision(unit: UnitOfWork) -> None:
            current = await unit.get(NOTIFICATION, notification_id)
            unit.emit(notification_id, notifications.mark_sent(current, reference))

        await outlast(
            lambda: self._handler.handle(decision, on_behalf("worker:mail", attempt.job))
        )  # else it would be sent again

    async def _record_failure(self, notification_id: UUID, code: str, attempt: JobAttempt) -> None:
        async def decision(unit: UnitOfWork) -> None:
            current = await unit.get(NOTIFICATION, notification_id)
            unit.emit(notification_id, notifications.mark_failed(current, code, attempt.number))

        await self._handler.handle(decision, on_behalf("worker:mail", attempt.job))


class _MailsOfHour:
    """When mails went to each address within the last hour."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[float]] = OrderedDict()  # the latest mailed last

    def may_go(self, address: str) -> bool:
        """Whether another mail may go to the address. If so, counts it."""
        begin = monotonic() - HOUR
        while self._times and next(iter(self._times.values()))[-1] < begin:
            self._times.popitem(last=False)
        times = self._times.setdefault(address, deque())
        while times and times[0] < begin:
            times.popleft()
        if len(times) >= UNVERIFIED_AN_HOUR:
            return False
        times.append(begin + HOUR)
        self._times.move_to_end(address)
        return True


def _message(
    notification_id: UUID,
    notification: Notification,
    params: Mapping[str, str],
    user: identity.User,
) -> Message:
    """The message to the notification's address. To an unverified address it says nothing that
    somebody typed."""
    address = params.get(notification_texts.ADDRESS, user.email)
    known = _is_known(notification, address, user)
    subject, text = notification_texts.render(
        notification.template,
        params if known else notification_texts.for_unverified(params),
        notification.channel,
    )
    return Message(
        notification_id,
        notification.user_id,
        notification.template,
        address,
        user.name if known else "",
        subject,
        text,
    )


def _is_known(notification: Notification, address: str, user: identity.User) -> bool:
    """Whether the notification reaches the account's owner: by push, or at an address that they
    verified."""
    return notification.channel == "push" or (user.email_verified and address == user.email)
