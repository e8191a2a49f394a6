"""What would be logged with every request while something is away: told at once, then counted."""

import logging
import threading
import time
from collections.abc import Callable

SECONDS = 5.0
"""How often one matter is told of at most."""


class Seldom:
    """Warnings of a logger. The first of a matter is logged; those of the next seconds are counted, and the first after
    that says how many they were. Safe to use from several threads."""

    def __init__(
        self, log: logging.Logger, *, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log, self._seconds, self._clock = log, seconds, clock
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, int]] = {}

    def warning(self, matter: str, text: str) -> None:
        """Log the text, unless another one of this matter was logged a moment ago. Matters are few and fixed."""
        now = self._clock()
        with self._lock:
            at, untold = self._told.get(matter, (-self._seconds, 0))
            if now - at < self._seconds:
                self._told[matter] = (at, untold + 1)
                return
            self._told[matter] = (now, 0)
        self._log.warning("%s%s", text, f" ({untold} more since the last such line)" if untold else "")
