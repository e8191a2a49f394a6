"""Proves that position order is commit order: processes append for a while, a reader follows, and
nothing is lost.

The same test over a log with an identity column finds the losses that our design prevents.
"""

import asyncio
import multiprocessing
import os
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing
from uuid import UUID

import msgspec
import pytest

from tests.support.events.notes import admin
from tests.support.processes.busy_logs import IdentityLog, Seen, append_for, open_busy_log

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("LUDOTECA_TEST_SOAK_SECONDS", "10"))
PROCESSES = 4


class Followed(msgspec.Struct):
    """The events acknowledged to the processes, and those seen by a reader that followed all the
    time."""

    appended: list[UUID]
    seen: list[Seen]

    @property
    def missed(self) -> set[UUID]:
        return set(self.appended) - {event_id for _, event_id in self.seen}

    @property
    def positions(self) -> list[int]:
        return [position for position, _ in self.seen]


async def _follow(kind: str, url: str) -> Followed:
    """Follow the log while processes append, until the reader has seen their last event."""
    found = Followed([], [])
    async with open_busy_log(kind, url) as log:
        reader = asyncio.create_task(_collect(log.follow(), found.seen))
        with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
            loop = asyncio.get_running_loop()
            writers = [
                loop.run_in_executor(pool, append_for, kind, url, SECONDS) for _ in range(PROCESSES)
            ]
            found.appended = [
                UUID(bytes=raw) for told in await asyncio.gather(*writers) for raw in told
            ]
        (last,) = await log.append(["the end"])
        async with asyncio.timeout(60):
            while not found.seen or found.seen[-1][1] != last:  # noqa: ASYNC110 - polled beside the reader, not in it
                await asyncio.sleep(0.01)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    return found


async def _collect(pages: AsyncIterator[list[Seen]], seen: list[Seen]) -> None:
    async with aclosing(pages) as open_pages:  # type: ignore[type-var]
        async for page in open_pages:
            seen.extend(page)


async def test_a_reader_of_the_log_misses_nothing_and_sees_nothing_twice_or_out_of_order(
    database: str,
) -> None:
    followed = await _follow("tail", database)
    assert len(followed.appended) > 100 * SECONDS, "the log was busy"
    assert followed.missed == set()
    assert followed.positions == list(range(1, len(followed.appended) + 2))
    assert len({event_id for _, event_id in followed.seen}) == len(followed.seen)


async def test_a_reader_of_a_log_with_an_identity_column_misses_events(empty_database: str) -> None:
    admin(empty_database, IdentityLog.TABLE)
    followed = await _follow("identity", empty_database)
    stored = {row[0] for row in admin(empty_database, "SELECT event_id FROM identity_log")}
    assert stored >= set(followed.appended), "each of them is in the table"
    assert len(followed.appended) > 20 * SECONDS, "the log was busy"
    assert len(followed.missed) > 0, "and yet the reader passed over some"
