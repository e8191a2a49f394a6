"""Rate-limited warnings, for conditions that would otherwise be logged with every request."""

import logging
import threading
import time
from collections.abc import Callable

SECONDS = 5.0
"""The shortest time between two log lines on one matter."""


class Seldom:
    """A logger for repeated warnings: the first on a matter is logged, those of the next seconds
    are counted, and the next line after them gives their number. Thread-safe."""

    def __init__(
        self,
        log: logging.Logger,
        *,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, int]] = {}

    def warning(self, matter: str, text: str) -> None:
        """Log the text unless one on this matter was logged in the last seconds. `matter` must come
        from a small fixed set."""
        now = self._clock()
        with self._lock:
            at, untold = self._told.get(matter, (-self._seconds, 0))
            if now - at < self._seconds:
                self._told[matter] = (at, untold + 1)
                return
            self._told[matter] = (now, 0)
        self._log.warning(
            "%s%s", text, f" ({untold} more since the last such line)" if untold else ""
        )
