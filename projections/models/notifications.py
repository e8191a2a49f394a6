"""Notifications, and whether they were sent. Their text is personal and not stored here."""

from datetime import datetime
from uuid import UUID

from domain.notifications import NotificationFailed, NotificationRequested, NotificationSent
from eventstore.log import Placed
from projections.projection import NIL, Projection, Row, Rows, on


class Notification(Row):
    """A notification. `status` is REQUESTED, SENT (with the mail or push service's `provider_ref`)
    or FAILED (with `code`); `attempts` are those that the log knows of. `at` is when it was
    requested, `settled_at` when it was sent or given up."""

    KEY = ("notification_id",)
    INDEXES = ("user_id, created_position",)
    INTERNAL = ("user_id", "created_position")

    notification_id: UUID
    channel: str
    template: str
    cause_event_id: UUID
    status: str
    attempts: int
    code: str | None
    provider_ref: str | None
    at: datetime
    settled_at: datetime | None
    user_id: UUID = NIL
    created_position: int = 0


class Notifications(Projection[Notification]):
    """Every notification by its id."""

    name, version, row = "notifications", 2, Notification

    @on(NotificationRequested)
    def requested(
        self, rows: Rows[Notification], event: NotificationRequested, env: Placed
    ) -> None:
        rows.put(
            Notification(
                notification_id=env.stream_id,
                user_id=event.user_id,
                channel=event.channel,
                template=event.template,
                cause_event_id=event.cause_event_id,
                status="REQUESTED",
                attempts=0,
                code=None,
                provider_ref=None,
                at=env.occurred_at,
                settled_at=None,
                created_position=env.position,
            )
        )

    @on(NotificationSent)
    def sent(self, rows: Rows[Notification], event: NotificationSent, env: Placed) -> None:
        notice = rows[env.stream_id]
        notice.status = "SENT"
        notice.code = None
        notice.settled_at = env.occurred_at
        notice.provider_ref = event.provider_ref
        notice.attempts += 1

    @on(NotificationFailed)
    def failed(self, rows: Rows[Notification], event: NotificationFailed, env: Placed) -> None:
        notice = rows[env.stream_id]
        notice.status = "FAILED"
        notice.code = event.code
        notice.settled_at = env.occurred_at
        notice.attempts = event.attempts
