"""What operators did, as a timeline."""

from datetime import datetime
from uuid import UUID

import msgspec

from projections.models.acts import BEGUN, CLOSE, FORGET
from queries.engine.paging import ListQuery, Page, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels


class ActOfOperator(msgspec.Struct, frozen=True):
    """An act with who did it (see `projections.models.acts`)."""

    position: int
    stream_id: UUID
    act: str
    target: str | None
    reason: str | None
    actor: str
    status: str
    affected: int | None
    error: str | None
    details: dict[str, str]
    at: datetime
    ended_at: datetime | None


_LISTING = ListQuery(
    ActOfOperator,
    f"""
SELECT acts.*, events.actor FROM @acts AS acts JOIN log.events AS events USING (position)
WHERE acts.act NOT IN ('{CLOSE}', '{FORGET}') OR events.actor <> 'user:' || acts.stream_id
""",
)
_NEWEST = newest_first("position")

_CONDITIONS = {
    "act": "act LIKE %(act)s",
    "actor": "actor LIKE %(actor)s",
    "target": "target = %(target)s",
    "status": "status = %(status)s",
    "since": "at >= %(since)s",
    "until": "at < %(until)s",
}


async def acts(
    models: ReadModels,
    *,
    act: str | None = None,
    actor: str | None = None,
    target: str | None = None,
    status: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[ActOfOperator]]:
    """Acts that match all given filters, the newest first; `act` and `actor` may be patterns such
    as `projection.*`. Raises BadCursor."""
    wanted = {
        "act": _pattern(act),
        "actor": _pattern(actor),
        "target": target,
        "status": status,
        "since": since,
        "until": until,
    }
    values: dict[str, object] = {name: value for name, value in wanted.items() if value is not None}
    conditions = [_CONDITIONS[name] for name in values]
    return await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)


_UNDER_WAY = f"SELECT stream_id FROM @acts WHERE status = '{BEGUN}' ORDER BY position LIMIT 1000"


class _Begun(msgspec.Struct, frozen=True):
    stream_id: UUID


async def under_way(models: ReadModels) -> list[UUID]:
    """The acts that were not seen to end yet, the oldest first."""
    return [each.stream_id for each in (await models.rows(_Begun, _UNDER_WAY)).value]


def _pattern(text: str | None) -> str | None:
    if text is None:
        return None
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_").replace("*", "%")
