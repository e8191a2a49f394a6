"""Findings of the shop's audit of itself: what does not hold, since when, and what was resolved."""

from datetime import datetime
from uuid import UUID

from domain.findings import FindingOpened, FindingResolved
from eventstore.log import Placed
from projections.projection import Projection, Rows, StreamRow, on


class Finding(StreamRow):
    """An invariant that did not hold for a subject; `status` is OPEN or RESOLVED. `opened_at` and
    `found_at` (a log position) are of the last time that it opened, `times` counts those."""

    KEY = ("finding_id",)
    INDEXES = ("status, created_position", "invariant, created_position", "created_position")

    finding_id: UUID
    invariant: str
    subject: str
    detail: str
    status: str
    times: int
    found_at: int
    opened_at: datetime
    resolved_at: datetime | None


class Findings(Projection[Finding]):
    """Every finding by its id."""

    name, version, row = "findings", 1, Finding

    @on(FindingOpened)
    def opened(self, rows: Rows[Finding], event: FindingOpened, env: Placed) -> None:
        known = rows.get(env.stream_id)
        if known is None:
            known = Finding(
                finding_id=env.stream_id,
                invariant=event.invariant,
                subject=event.subject,
                detail="",
                status="",
                times=0,
                found_at=0,
                opened_at=env.occurred_at,
                resolved_at=None,
            )
            rows.put(known)
        known.detail = event.detail
        known.status = "OPEN"
        known.times += 1
        known.found_at = event.at
        known.opened_at = env.occurred_at
        known.resolved_at = None

    @on(FindingResolved)
    def resolved(self, rows: Rows[Finding], _: FindingResolved, env: Placed) -> None:
        finding = rows[env.stream_id]
        finding.status = "RESOLVED"
        finding.resolved_at = env.occurred_at
