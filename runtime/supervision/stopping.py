"""The signals that ask the supervisor to stop."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from runtime.host.children import Child


class StopRequested(KeyboardInterrupt):
    """SIGTERM or SIGINT arrived. It derives from this class because asyncio and psycopg then let it
    through at once."""


class Stopping:
    """Catches SIGTERM and SIGINT, and remembers them. The second one ends everything at once:
    `children` are killed, and PostgreSQL, whose parent is gone then, shuts down by itself."""

    def __init__(self) -> None:
        self.asked = False
        self.children: Sequence[Child] = ()
        self._at_once = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            for child in self.children:
                child.process.kill()
            os._exit(128 + number)
        self.asked = True
        if self._at_once:
            raise StopRequested

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """While the block runs, a signal interrupts it, whatever it is waiting for. Raises
        StopRequested."""
        self._at_once = True
        try:
            if self.asked:
                raise StopRequested
            yield
        finally:
            self._at_once = False

    def wait(self, seconds: float) -> bool:
        if not self.asked:
            time.sleep(seconds)
        return self.asked
