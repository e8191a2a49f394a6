"""Alerts: what is wrong, who looks after it, and what Alertmanager tells."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, BeforeValidator, Field
from starlette.responses import Response

from api.answers import answer, page_answer, position_of
from api.auth import Admin, Alertmanager, Auditor
from api.fields import Answer, Body, Page, Reason, Time
from api.reading import Cursor, Limit, PresentReads
from api.services import ServicesOf
from domain.alerts import Seen
from queries.operations import alerts

router = APIRouter(prefix="/api/v1/ops", tags=["operations"])

RUNBOOK = "docs/runbooks/alerts.md#"
"""How the rules of `deploy/prometheus` name the section that says what to do."""

MAX_ALERTS = 1_000


class AlertView(Answer):
    """An alert, as it was raised the last time: RAISED, ACKNOWLEDGED by somebody who looks after
    it, with their `note`, or RESOLVED. `source` is `ludoteca`, which looks itself, or
    `alertmanager`. `runbook` is a section of docs/runbooks/alerts.md, or a URL."""

    alert_id: UUID
    name: str
    labels: dict[str, str]
    source: str
    severity: str
    summary: str
    runbook: str
    status: str
    times: int
    raised_at: Time
    acknowledged_at: Time | None
    acknowledged_by: str | None
    note: str | None
    resolved_at: Time | None
    version: int


class Acknowledgement(Body):
    """A note by the person who looks after an alert."""

    note: Reason = Field(description="Recorded with the acknowledgement.")


def _of_whole_characters(value: object) -> object:
    """An odd label must not keep the notification's other alerts out."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


TheirText = Annotated[str, BeforeValidator(_of_whole_characters)]
"""A text that others made up. Halves of characters (lone surrogates) are replaced."""


class AlertOfAlertmanager(BaseModel):
    """An alert in a notification of Alertmanager. What else it has is not used."""

    status: Literal["firing", "resolved"]
    labels: dict[TheirText, TheirText]
    annotations: dict[TheirText, TheirText] = {}


class Notification(BaseModel):
    """What Alertmanager sends to a webhook (version 4)."""

    version: Literal["4"]
    alerts: Annotated[list[AlertOfAlertmanager], Field(max_length=MAX_ALERTS)]


@router.get("/alerts", response_model=Page[AlertView])
async def list_alerts(
    request: Request,
    reads: PresentReads,
    _: Auditor,
    status: Literal["OPEN", "RAISED", "ACKNOWLEDGED", "RESOLVED"] | None = None,
    name: Annotated[str | None, Query(max_length=100)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List alerts, those raised last first; OPEN are those that are raised or acknowledged.
    Requires AUDITOR or ADMIN."""
    found = await alerts.alerts(reads, status=status, name=name, limit=limit, cursor=cursor)
    page = Page[AlertView].model_validate(
        {"items": found.value.items, "next_cursor": found.value.next_cursor}
    )
    return page_answer(request, page, found.position)


@router.post("/alerts/{alert_id}/acknowledge", status_code=204)
async def acknowledge_alert(
    alert_id: UUID, body: Acknowledgement, services: ServicesOf, caller: Admin
) -> Response:
    """Look after an alert. Requires ADMIN. Errors: 404 `alert_not_found`; 409 `alert_acknowledged`,
    `alert_resolved`."""
    result = await services.commands.alerts.acknowledge(caller, alert_id, body.note)
    return answer(None, status=204, position=await position_of(result, services))


@router.post("/alerts/alertmanager", status_code=204)
async def take_notification(
    body: Notification, services: ServicesOf, caller: Alertmanager
) -> Response:
    """Take a notification of Alertmanager, who has the token of LUDOTECA_ALERTMANAGER_TOKEN: each
    firing alert is raised, each resolved one is resolved. It may be repeated. Errors: 401
    `unauthorized`."""
    for each in body.alerts:
        seen = _seen(each)
        if each.status == "firing":
            await services.commands.alerts.raise_alert(seen, caller)
        else:
            await services.commands.alerts.resolve(seen.alert_id, caller)
    return answer(None, status=204)


def _seen(alert: AlertOfAlertmanager) -> Seen:
    labels = dict(alert.labels)
    name, severity = labels.pop("alertname", ""), labels.pop("severity", "")
    annotations = alert.annotations
    runbook = annotations.get("runbook_url") or annotations.get("runbook", "").removeprefix(RUNBOOK)
    return Seen(
        source="alertmanager",
        name=name or "unnamed",
        labels=labels,
        severity="critical" if severity == "critical" else "warning",
        summary=annotations.get("summary") or annotations.get("description", ""),
        runbook=runbook,
    )
