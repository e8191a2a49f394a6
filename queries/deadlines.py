"""Deadlines that are due."""

from datetime import datetime

from projections.models.deadlines import Deadline
from queries.read_models import ReadModels

_DUE = """
SELECT * FROM @deadlines WHERE due_at <= %(now)s ORDER BY due_at LIMIT %(limit)s
"""


class DueTimes:
    """Reads the deadlines that are neither met nor fired, as far as the read model knows."""

    def __init__(self, models: ReadModels) -> None:
        self._models = models

    async def due(self, now: datetime, limit: int) -> list[Deadline]:
        """Deadlines that are due at `now`, the longest overdue first. Raises ReadModelBehind."""
        return (await self._models.rows(Deadline, _DUE, now=now, limit=limit)).value
