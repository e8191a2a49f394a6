"""Long work for auditors: what would have been under other rules, and the shop as it was."""

from datetime import datetime
from typing import Any

import msgspec


class Task(msgspec.Struct, frozen=True):
    """Work under way, or done. `result` depends on its kind."""

    id: str
    kind: str
    asked: dict[str, Any]
    asked_by: str
    state: str
    begun_at: datetime
    stage: str
    done: int
    total: int
    per_second: float | None
    seconds_left: float | None
    ended_at: datetime | None
    error: str
    result: dict[str, Any] | None

    @property
    def is_running(self) -> bool:
        return self.state == "RUNNING"

    @property
    def differed(self) -> bool:
        """Whether a rebuild was not taken, as its rows differ from the live ones."""
        return self.kind == "rebuild" and "rows differ" in self.error

    @property
    def title(self) -> str:
        """What it is, in words."""
        subject = str(self.asked.get("projection", ""))
        return {
            "whatif": "What if",
            "replay": f"The shop at position {self.asked.get('position', '')}",
            "rebuild": f"Rebuild of {subject}",
            "comparison": f"Comparison of {subject} with the log",
        }.get(self.kind, self.kind)
