"""The API processes that serve one port together, and what they share."""

from dataclasses import dataclass

from api.middleware.shared_windows import SharedWindows
from kit.shared_memory import NoticeBoard


@dataclass(frozen=True)
class Siblings:
    """This process's number among them, from 1 on; the board that shows each one's metrics; the
    requests that all of them have counted against the rate limits."""

    number: int
    board: NoticeBoard
    windows: SharedWindows
