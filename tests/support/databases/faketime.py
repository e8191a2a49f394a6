"""Clocks that jump: libfaketime (Debian's package `faketime`) between a program and the system's
time.

    with Clock() as clock, PostgresWithClock(clock) as server:
        clock.ahead(3600)

The monotonic clock stays true, as it does when a machine's time is set.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any, Self

from tests.support.servers import shared
from tests.support.servers.own_postgres import OwnPostgres


class Clock:
    """A clock that differs from the machine's by a number of seconds."""

    def __init__(self) -> None:
        """Skips the test, or fails it where services are required, unless libfaketime is
        installed."""
        self._library = shared.require_faketime()
        self._folder = Path(tempfile.mkdtemp(prefix="ludoteca-clock-"))
        self._folder.chmod(0o755)  # PostgreSQL reads it as another user
        self._file = self._folder / "time"
        self.ahead(0)

    def ahead(self, seconds: float) -> None:
        """Jump: be this many seconds ahead of the machine's clock from now on; negative: behind."""
        fresh = self._folder / "fresh"
        fresh.write_text(f"{seconds:+}\n")
        fresh.chmod(0o644)
        fresh.rename(self._file)  # atomically, so that no reader sees half a file

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables of a process that uses this clock."""
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    @contextmanager
    def governing(self) -> Iterator[None]:
        """Processes started within the block use this clock."""
        before = dict(os.environ)
        os.environ.update(self.environment)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        rmtree(self._folder, ignore_errors=True)


class PostgresWithClock(OwnPostgres):
    """A PostgreSQL server with a clock of its own."""

    def __init__(self, clock: Clock, **settings: Any) -> None:
        super().__init__(**settings)
        self.clock = clock

    def start(self) -> None:
        with self.clock.governing():
            super().start()
