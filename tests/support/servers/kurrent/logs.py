"""Logs on the double, each with a mirror beside it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from time import monotonic
from uuid import uuid4

import pytest

from adapters.kurrentdb.kurrent_log import KurrentLog
from adapters.kurrentdb.mirror import Mirror
from eventstore.codec import Codec
from eventstore.log import AlreadyDone, IdempotencyKey, Log, LogUnavailable, StreamAppend
from kit.clock import SYSTEM_CLOCK, Clock
from tests.support.events.notes import CODEC

SILENT_SECONDS = 0.3
"""How soon these mirrors notice that their subscription has fallen silent."""


LONG = 20.0
"""Seconds: more than any wait of the log's, also on a busy machine."""


@asynccontextmanager
async def mirroring(kurrentdb_url: str, database: str, codec: Codec = CODEC) -> AsyncIterator[None]:
    """A mirror that runs."""
    mirror = Mirror(kurrentdb_url, database, codec.kinds, silent_seconds=SILENT_SECONDS)
    running = asyncio.create_task(mirror.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


@asynccontextmanager
async def mirrored_log(
    kurrentdb_url: str, database: str, *, codec: Codec = CODEC, clock: Clock = SYSTEM_CLOCK
) -> AsyncIterator[KurrentLog]:
    """The log, and a mirror that runs."""
    async with (
        mirroring(kurrentdb_url, database, codec),
        KurrentLog.mirrored(kurrentdb_url, database, codec, pool_size=3, clock=clock) as log,
    ):
        yield log


async def unavailable(call: Awaitable[object]) -> None:
    """The call must end in time, by LogUnavailable."""
    began = monotonic()
    with pytest.raises(LogUnavailable):
        await call
    assert monotonic() - began < LONG


async def appended_once(log: Log, append: StreamAppend) -> None:
    """Append, again and again while the log is unavailable; as a client does that has a key."""
    once = IdempotencyKey(uuid4())
    async with asyncio.timeout(LONG):
        while True:
            try:
                await log.append([append], once=once)
            except LogUnavailable:
                await asyncio.sleep(0.05)
            except AlreadyDone:
                return
            else:
                return
