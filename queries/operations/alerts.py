"""Alerts: what is wrong, and who looks after it."""

from datetime import datetime
from uuid import UUID

import msgspec

from queries.engine.paging import ListQuery, Page, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels


class AlertNow(msgspec.Struct, frozen=True):
    """An alert with who acknowledged it (see `projections.models.alerts`)."""

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
    acknowledged_by: str | None
    note: str | None
    resolved_at: datetime | None
    version: int


_ALERTS = """
SELECT alerts.*, events.actor AS acknowledged_by FROM @alerts AS alerts
LEFT JOIN log.events AS events ON events.position = alerts.acknowledged_position
"""

_LISTING = ListQuery(AlertNow, _ALERTS)
_NEWEST = newest_first("raised_position")

_OPEN = "status IN ('RAISED', 'ACKNOWLEDGED')"

_FIELDS = ", ".join(AlertNow.__struct_fields__)
_OPEN_OF = f"""
SELECT {_FIELDS} FROM ({_ALERTS}) AS listed WHERE {_OPEN} AND source = %(source)s
"""


async def alerts(
    models: ReadModels,
    *,
    status: str | None = None,
    name: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[AlertNow]]:
    """Alerts, those raised last first; of the status OPEN those that are raised or acknowledged.
    Raises BadCursor."""
    conditions: list[str] = []
    values: dict[str, object] = {}
    if status == "OPEN":
        conditions.append(_OPEN)
    elif status is not None:
        conditions.append("status = %(status)s")
        values["status"] = status
    if name is not None:
        conditions.append("name = %(name)s")
        values["name"] = name
    return await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)


async def open_alerts(models: ReadModels, source: str) -> list[AlertNow]:
    """All alerts of a source that are raised or acknowledged."""
    return (await models.rows(AlertNow, _OPEN_OF, source=source)).value
