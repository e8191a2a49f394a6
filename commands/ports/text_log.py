"""Plain text logs."""

from typing import Protocol


class TextLog(Protocol):
    """A plain text log for people: one line per step."""

    def write(self, step: str, **ids: object) -> None: ...
