"""Detects an unreliable clock of this process: one that stepped, or is far from the database's."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from time import monotonic

from psycopg_pool import AsyncConnectionPool

from eventstore.log import ClocksDiffer
from kit.clock import Clock
from kit.metrics import CLOCK_STEPS

logger = logging.getLogger(__name__)

STEP = timedelta(seconds=2)
"""How far the clock may move against the monotonic one between two checks; slewing (NTP) is a
thousand times slower."""

LOOK_SECONDS = 1.0

_READING_SECONDS = 0.1
"""A comparison of two clocks that takes longer than this is discarded."""


class ClockWatch:
    """Compares this process's clock continuously with its monotonic one and, on request, with the
    database's."""

    def __init__(
        self,
        pool: AsyncConnectionPool,
        clock: Clock,
        tolerance: timedelta | None,
        elapsed: Callable[[], float] = monotonic,
    ) -> None:
        """`tolerance` is how far the database's clock may be from ours (None: without limit)."""
        self._pool = pool
        self._clock = clock
        self._tolerance = tolerance
        self._elapsed = elapsed
        self._offset = self._read()
        self.ahead = timedelta(0)
        """How far it was ahead of the database's at the last comparison; negative: behind."""

    async def run(self) -> None:
        """Check for steps until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Log and count it if the clock stepped since the last check. A suspended machine looks the
        same."""
        offset = self._read()
        if offset is None:
            return
        if self._offset is not None and abs(offset - self._offset) > STEP.total_seconds():
            CLOCK_STEPS.inc()
            logger.error(
                "the clock of this process stepped by %+.1f s, or the machine was suspended: see to"
                " its time synchronisation, for deadlines go by this clock",
                offset - self._offset,
            )
        self._offset = offset

    async def check(self) -> None:
        """Compare with the database's clock. Raises ClocksDiffer beyond the tolerance;
        psycopg.Error."""
        async with self._pool.connection() as conn:
            before = self._clock.now()
            row = await (await conn.execute("SELECT clock_timestamp()")).fetchone()
            after = self._clock.now()
        assert row is not None
        self.ahead = before + (after - before) / 2 - row[0]
        self.must_agree()

    def must_agree(self) -> None:
        """Raises ClocksDiffer when the last comparison was beyond the tolerance."""
        if self._tolerance is not None and abs(self.ahead) > self._tolerance:
            raise ClocksDiffer(self.ahead.total_seconds())

    def _read(self) -> float | None:
        """How far the clock is ahead of the monotonic one, in seconds; None when reading both took
        too long."""
        before = self._elapsed()
        now = self._clock.now().timestamp()
        after = self._elapsed()
        return now - after if after - before < _READING_SECONDS else None
