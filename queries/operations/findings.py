"""What the shop's audit of itself has found."""

import msgspec

from projections.models.findings import Finding
from queries.engine.paging import ListQuery, Page, newest_first, page
from queries.engine.read_models import QueryResult, ReadModels

_LISTING = ListQuery(Finding, "SELECT * FROM @findings")
_NEWEST = newest_first("created_position")

_OPEN_BY_INVARIANT = """
SELECT invariant, count(*) AS count FROM @findings WHERE status = 'OPEN' GROUP BY invariant
"""


class OpenFindings(msgspec.Struct, frozen=True):
    """How many findings of an invariant are open."""

    invariant: str
    count: int


async def findings(
    models: ReadModels,
    *,
    status: str | None = None,
    invariant: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> QueryResult[Page[Finding]]:
    """Findings, the newest first. Raises BadCursor."""
    wanted = {"status": status, "invariant": invariant}
    values: dict[str, object] = {name: value for name, value in wanted.items() if value is not None}
    conditions = [f"{name} = %({name})s" for name in values]
    return await page(models, _LISTING, _NEWEST, conditions, values, limit=limit, cursor=cursor)


async def open_by_invariant(models: ReadModels) -> QueryResult[dict[str, int]]:
    """How many findings of each invariant are open; of those that have any."""
    found = await models.rows(OpenFindings, _OPEN_BY_INVARIANT)
    return found.map(lambda rows: {row.invariant: row.count for row in rows})
