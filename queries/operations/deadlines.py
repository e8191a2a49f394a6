"""Deadlines that are due."""

from datetime import datetime

import msgspec

from projections.models.deadlines import Deadline
from queries.engine.read_models import ReadModels

_DUE = """
SELECT * FROM @deadlines WHERE due_at <= %(now)s ORDER BY due_at LIMIT %(limit)s
"""

_OVERDUE = """
SELECT count(*)::float8 AS due,
    coalesce(extract(epoch FROM %(now)s - min(due_at)), 0)::float8 AS late_seconds
FROM @deadlines WHERE due_at <= %(now)s
"""


class Overdue(msgspec.Struct, frozen=True):
    """How many deadlines are due and not fired yet, and how late the one is that is late for
    longest."""

    due: float
    late_seconds: float


async def overdue(models: ReadModels, now: datetime) -> Overdue:
    """What is due at `now`, as far as the read model knows. Raises ReadModelBehind."""
    found = (await models.first(Overdue, _OVERDUE, now=now)).value
    return Overdue(0, 0.0) if found is None else found


class DueTimes:
    """Reads the deadlines that are neither met nor fired, as far as the read model knows."""

    def __init__(self, models: ReadModels) -> None:
        self._models = models

    async def due(self, now: datetime, limit: int) -> list[Deadline]:
        """Deadlines that are due at `now`, the longest overdue first. Raises ReadModelBehind."""
        return (await self._models.rows(Deadline, _DUE, now=now, limit=limit)).value
