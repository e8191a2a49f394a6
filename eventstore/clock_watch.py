"""Notices when the clock of this process cannot be trusted: it stepped, or it is far from the database's."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from time import monotonic

from psycopg_pool import AsyncConnectionPool

from eventstore.log import ClocksDiffer
from kit.clock import Clock

log = logging.getLogger(__name__)

STEP = timedelta(seconds=2)
"""How far the clock may move against the monotonic one between two looks; slewing (NTP) is a thousand times slower."""

LOOK_SECONDS = 1.0

_READING_SECONDS = 0.1
"""Two clocks that took longer than this to read say nothing about each other."""


class ClockWatch:
    """Compares this process's clock with its monotonic one, all the time, and with the database's, when asked."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        clock: Clock,
        tolerance: timedelta | None,
        elapsed: Callable[[], float] = monotonic,
    ) -> None:
        """`tolerance`: how far the database's clock may be from ours; None: as far as it likes."""
        self._pool, self._clock, self._tolerance, self._elapsed = pool, clock, tolerance, elapsed
        self._offset = self._read()
        self.steps = 0
        """How often the clock stepped."""
        self.ahead = timedelta(0)
        """How far it was ahead of the database's when that was last asked; below 0: behind."""

    async def run(self) -> None:
        """Look for steps, until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Raise the alarm if the clock stepped since the last look. A machine that was suspended looks the same."""
        offset = self._read()
        if offset is None:
            return
        if self._offset is not None and abs(offset - self._offset) > STEP.total_seconds():
            self.steps += 1
            log.error(
                "the clock of this process stepped by %+.1f s, or the machine was suspended: see to its time"
                " synchronisation, for deadlines go by this clock",
                offset - self._offset,
            )
        self._offset = offset

    async def check(self) -> None:
        """Raises ClocksDiffer when ours and the database's differ by more than is tolerated; psycopg.Error."""
        async with self._pool.connection() as conn:
            before = self._clock.now()
            row = await (await conn.execute("SELECT clock_timestamp()")).fetchone()
            after = self._clock.now()
        assert row is not None
        self.ahead = before + (after - before) / 2 - row[0]
        self.must_agree()

    def must_agree(self) -> None:
        """Raises ClocksDiffer when they did when that was last asked."""
        if self._tolerance is not None and abs(self.ahead) > self._tolerance:
            raise ClocksDiffer(self.ahead.total_seconds())

    def _read(self) -> float | None:
        """By how much the clock is ahead of the monotonic one, in seconds; None when it took too long to tell."""
        before = self._elapsed()
        now = self._clock.now().timestamp()
        after = self._elapsed()
        return now - after if after - before < _READING_SECONDS else None
