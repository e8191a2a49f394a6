"""What is due."""

from datetime import datetime

from projections.models.deadlines import Deadline
from queries.paging import columns_of
from queries.read_models import ReadModels


class DueTimes:
    """The deadlines that are neither met nor fired, as far as the read model knows."""

    def __init__(self, models: ReadModels) -> None:
        self._models = models

    async def due(self, now: datetime, limit: int) -> list[Deadline]:
        """What is due at `now`, the longest overdue first. Raises ReadModelBehind."""
        query = (
            f"SELECT {columns_of(Deadline, 'd')} FROM {{deadlines}} d"
            " WHERE d.due_at <= %(now)s ORDER BY d.due_at LIMIT %(limit)s"
        )
        return (await self._models.rows(Deadline, query, now=now, limit=limit)).value
