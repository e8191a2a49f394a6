"""The API processes that serve one port together, and what they share."""

from dataclasses import dataclass

from kit.shared_memory import NoticeBoard


@dataclass(frozen=True)
class Siblings:
    """This process's number among them, from 1 on, and the board that shows each one's metrics."""

    number: int
    board: NoticeBoard
