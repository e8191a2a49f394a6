"""Alerts as they stand: what is wrong, since when, and who looks after it.

Who acknowledged one is the actor of the event at `acknowledged_position`: folds do not see it.
"""

from datetime import datetime
from uuid import UUID

from domain.alerts import AlertAcknowledged, AlertRaised, AlertResolved
from domain.named_texts import by_name
from eventstore.log import Placed
from projections.projection import Projection, Rows, StreamRow, on


class Alert(StreamRow):
    """An alert; `status` is RAISED, ACKNOWLEDGED or RESOLVED. What it says is of the last time that
    it was raised; `times` counts those."""

    KEY = ("alert_id",)
    INDEXES = ("raised_position", "status, raised_position", "name, raised_position")
    INTERNAL = (*StreamRow.INTERNAL, "raised_position", "acknowledged_position")

    alert_id: UUID
    name: str
    labels: dict[str, str]
    source: str
    severity: str
    summary: str
    runbook: str
    status: str
    times: int
    raised_at: datetime
    acknowledged_at: datetime | None
    note: str | None
    resolved_at: datetime | None
    raised_position: int = 0
    acknowledged_position: int | None = None


class Alerts(Projection[Alert]):
    """Every alert by its id."""

    name, version, row = "alerts", 1, Alert

    @on(AlertRaised)
    def raised(self, rows: Rows[Alert], event: AlertRaised, env: Placed) -> None:
        before = rows.get(env.stream_id)
        rows.put(
            Alert(
                alert_id=env.stream_id,
                name=event.name,
                labels=by_name(event.labels),
                source=event.source,
                severity=event.severity,
                summary=event.summary,
                runbook=event.runbook,
                status="RAISED",
                times=1 if before is None else before.times + 1,
                raised_at=env.occurred_at,
                acknowledged_at=None,
                note=None,
                resolved_at=None,
                raised_position=env.position,
                created_at=env.occurred_at if before is None else before.created_at,
                created_position=0 if before is None else before.created_position,
            )
        )

    @on(AlertAcknowledged)
    def acknowledged(self, rows: Rows[Alert], event: AlertAcknowledged, env: Placed) -> None:
        alert = rows[env.stream_id]
        alert.status = "ACKNOWLEDGED"
        alert.acknowledged_at = env.occurred_at
        alert.acknowledged_position = env.position
        alert.note = event.note

    @on(AlertResolved)
    def resolved(self, rows: Rows[Alert], _: AlertResolved, env: Placed) -> None:
        alert = rows[env.stream_id]
        alert.status = "RESOLVED"
        alert.resolved_at = env.occurred_at
