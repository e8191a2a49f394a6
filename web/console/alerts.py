"""Alerts: what asks for an operator, and who looks at it."""

from datetime import datetime

import msgspec
from starlette.responses import Response

from web.api_client import Listed, Nothing, Problem
from web.console.acting import may_act
from web.console.entering import console_router
from web.visit import Visit

router = console_router()

PER_PAGE = 50
STATUSES = (("OPEN", "Open"), ("RESOLVED", "Resolved"), ("ALL", "All"))


class Alert(msgspec.Struct, frozen=True):
    """An alert, which may be raised again and again."""

    alert_id: str
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
    acknowledged_by: str | None
    note: str | None
    resolved_at: datetime | None

    @property
    def has_url(self) -> bool:
        """Whether `runbook` is a URL; otherwise it is a section of docs/runbooks/alerts.md."""
        return self.runbook.startswith(("https://", "http://"))

    @property
    def kind(self) -> str:
        """The kind of its badge."""
        if self.status == "RESOLVED":
            return "good"
        return "bad" if self.severity == "critical" else "warn"


@router.get("/console/alerts")
async def show_alerts(visit: Visit) -> Response:
    """The alerts; by default those that are open."""
    return await _alerts_page(visit)


async def _alerts_page(visit: Visit, status: int = 200) -> Response:
    chosen = visit.query("status") or "OPEN"
    found = await visit.api.get(
        "/api/v1/ops/alerts",
        Listed[Alert],
        status=None if chosen == "ALL" else chosen,
        limit=PER_PAGE,
        cursor=visit.query("cursor") or None,
    )
    return visit.page(
        "console/alerts.html",
        status=status,
        found=found,
        chosen=chosen,
        statuses=STATUSES,
        may_act=may_act(visit),
    )


@router.post("/console/alerts/{alert_id}/acknowledge")
async def acknowledge(visit: Visit) -> Response:
    """Acknowledge an alert."""
    note = visit.form.text("note")
    if not note:
        visit.form.errors["note"] = "Say what is being done: it is recorded in the log."
        return await _alerts_page(visit, status=422)
    path = f"/api/v1/ops/alerts/{visit.id('alert_id')}/acknowledge"
    try:
        await visit.api.post(path, {"note": note}, Nothing)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _alerts_page(visit, status=problem.status)
    return visit.go("/console/alerts", "It is acknowledged: others see that you look at it.")
