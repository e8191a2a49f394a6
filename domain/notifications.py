"""A notification to a person: one per cause and channel, requested once, then sent, or failed after
all retries.

Its text is rendered from a template and parameters when it is sent. Personal data is stored in the
parameters only, which are encrypted under the person's key.
"""

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from domain.events import PERSONAL, Event, event
from domain.notification_texts import Channel, render

Status = Literal["REQUESTED", "SENT", "FAILED"]

# -- events ----------------------------------------------------------------------------------------


@event("notification.requested.v1", person="user_id")
class NotificationRequested(Event, frozen=True):
    """A notification to this person was requested; `params` fill the template."""

    user_id: UUID
    channel: Channel
    template: str
    cause_event_id: UUID
    params: Annotated[dict[str, str] | None, PERSONAL] = None


@event("notification.sent.v1")
class NotificationSent(Event, frozen=True):
    """The notification was sent; `provider_ref` is the mail or push service's reference."""

    provider_ref: str | None = None


@event("notification.failed.v1")
class NotificationFailed(Event, frozen=True):
    """The notification failed after `attempts` attempts."""

    code: str
    attempts: int


UNTRIED = frozenset({"recipient_unknown", "recipient_unreachable", "recipient_unverified"})
"""Codes of failures that were no attempt, and have no dead letter."""


# -- state -----------------------------------------------------------------------------------------


class Notification(msgspec.Struct, frozen=True):
    """The state of a notification. `params` is None when there are none, or when the person was
    forgotten."""

    user_id: UUID
    channel: Channel
    template: str
    cause_event_id: UUID
    params: dict[str, str] | None = None
    status: Status = "REQUESTED"
    untried: bool = False

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to do, should the job come again. After a failure there is:
        its dead letter may be redriven."""
        return self.status == "SENT" or self.untried


def evolve(state: Notification | None, event: Event) -> Notification | None:
    match state, event:
        case _, NotificationRequested():
            return Notification(**msgspec.structs.asdict(event))
        case Notification(), NotificationSent():
            return msgspec.structs.replace(state, status="SENT")
        case Notification(), NotificationFailed():
            return msgspec.structs.replace(state, status="FAILED", untried=event.code in UNTRIED)
    return state


# -- decisions -------------------------------------------------------------------------------------


def request(
    notification: Notification | None,
    *,
    user_id: UUID,
    channel: Channel,
    template: str,
    cause_event_id: UUID,
    params: Mapping[str, str],
) -> list[Event]:
    """Request a notification. Idempotent. Raises Invalid as `render`, so that no later step needs
    to."""
    if notification is not None:
        return []
    render(template, params)
    return [
        NotificationRequested(
            user_id=user_id,
            channel=channel,
            template=template,
            cause_event_id=cause_event_id,
            params=dict(params),
        )
    ]


def mark_sent(notification: Notification, provider_ref: str | None = None) -> list[Event]:
    """Mark the notification as sent, even after a failure. Idempotent."""
    return [] if notification.status == "SENT" else [NotificationSent(provider_ref=provider_ref)]


def mark_failed(notification: Notification, code: str, attempts: int) -> list[Event]:
    """Mark the notification as failed after the last attempt. No-op once it is sent or failed."""
    return (
        []
        if notification.status != "REQUESTED"
        else [NotificationFailed(code=code, attempts=attempts)]
    )
