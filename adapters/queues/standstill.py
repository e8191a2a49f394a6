"""For how long jobs wait in a queue that shows no more than their number."""

import time
from collections.abc import Callable


class Standstill:
    """Since when the jobs that wait for a worker become no fewer, from one look to the next.

    While workers keep up, each look soon finds fewer than the one before. So a busy queue stands
    still for moments, and one that nobody takes from for ever longer: at most as long as its first
    job waits."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._waiting = 0
        self._since = 0.0

    def seconds(self, waiting: int) -> float:
        """For how long, now that a look found so many; 0 if none wait."""
        now = self._now()
        if waiting == 0 or waiting < self._waiting or self._waiting == 0:
            self._since = now
        self._waiting = waiting
        return now - self._since
