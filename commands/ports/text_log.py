"""Plain text logs."""

from typing import Protocol


class TextLog(Protocol):
    """A text log for people, with one line for each step."""

    def write(self, step: str, **ids: object) -> None: ...
