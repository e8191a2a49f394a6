"""An append has a limited patience and size; one that exceeds them affects no other."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest
from fastapi import APIRouter

from eventstore.append import writer
from eventstore.append.pending import Pending
from eventstore.chain import ChainVerifier
from eventstore.log import MAX_APPEND_BYTES, LogUnavailable, StreamAppend, TooLarge
from eventstore.postgres_log import PostgresLog
from tests.support.events.notes import CODEC, new_stream, noted
from tests.support.processes.program import eventually
from tests.support.shops.small_gateway import tiny

MIB = 1 << 20
AT_MOST_SECONDS = 15
"""Well above the promise: the patience, and a wait or two for the lock beyond it."""


@contextmanager
def holding_the_tail(database: str) -> Iterator[psycopg.Connection]:
    """An open transaction holds the lock under which appends go to the end of the log."""
    with psycopg.connect(database) as conn:
        conn.execute("SELECT pg_advisory_xact_lock(4910, 1)")
        yield conn


# -- patience --------------------------------------------------------------------------------------


async def test_appends_wait_for_the_tail_no_longer_than_their_patience(database: str) -> None:
    async with PostgresLog.open(database, CODEC) as log:
        await log.append([new_stream("before")])
        with holding_the_tail(database):
            began = time.monotonic()
            outcomes = await asyncio.gather(
                *(log.append([new_stream(f"{n}")]) for n in range(50)), return_exceptions=True
            )
            assert time.monotonic() - began < AT_MOST_SECONDS
        assert {type(outcome) for outcome in outcomes} == {LogUnavailable}
        began = time.monotonic()
        assert (await log.append([new_stream("after")])).position == 2
        assert time.monotonic() - began < writer.APPEND_TIMEOUT_SECONDS


async def test_appends_succeed_once_the_tail_is_free(database: str) -> None:
    async with PostgresLog.open(database, CODEC) as log:
        with holding_the_tail(database):
            waiting = [asyncio.create_task(log.append([new_stream(f"{n}")])) for n in range(50)]
            await asyncio.to_thread(eventually, lambda: waiters(database))
            assert not any(task.done() for task in waiting)
        landed = await asyncio.wait_for(asyncio.gather(*waiting), writer.APPEND_TIMEOUT_SECONDS)
        assert sorted(each.position for each in landed) == list(range(1, 51))


async def test_one_whose_patience_ended_takes_none_with_it_that_came_later(database: str) -> None:
    async with PostgresLog.open(database, CODEC) as log:
        with holding_the_tail(database):
            first = asyncio.create_task(log.append([new_stream("early")]))
            with pytest.raises(LogUnavailable):
                await first
            late = [asyncio.create_task(log.append([new_stream(f"{n}")])) for n in range(5)]
            await asyncio.to_thread(eventually, lambda: waiters(database))
        await asyncio.gather(*late)
        assert await log.head() == 5


def waiters(database: str) -> int:
    """Sessions that wait for the tail."""
    with psycopg.connect(database, autocommit=True) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        ).fetchone()
    assert row is not None
    return int(row[0])


# -- size ------------------------------------------------------------------------------------------


async def test_an_append_has_its_size_over_all_its_streams(database: str) -> None:
    async with PostgresLog.open(database, CODEC) as log:
        half = MAX_APPEND_BYTES // MIB // 2
        streams = [StreamAppend(uuid4(), 0, noted(*["x" * (MIB - 1024)] * half)) for _ in range(2)]
        await log.append(streams)
        more = [*streams, new_stream("x" * 64 * 1024)]
        with pytest.raises(TooLarge) as refused:
            await log.append([StreamAppend(uuid4(), 0, each.events) for each in more])
        assert refused.value.code == "append_too_large"
        assert await log.head() == 2 * half
        steps = [step async for step in log.verify(ChainVerifier(), upto=await log.head(), page=5)]
        assert steps[-1] == 2 * half


async def test_large_appends_neither_end_nor_hold_up_the_small_ones_beside_them(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []
    take = writer.GroupCommitWriter._take

    def watched(self: writer.GroupCommitWriter) -> list[Pending]:
        batch = take(self)
        sizes.append((len(batch), sum(pending.size for pending in batch)))
        return batch

    monkeypatch.setattr(writer.GroupCommitWriter, "_take", watched)
    async with PostgresLog.open(database, CODEC) as log:
        large = noted(*["x" * (MIB - 1024)] * 12)
        busy = asyncio.create_task(log.append([new_stream("busy")]))
        await asyncio.sleep(0)
        small = [asyncio.create_task(log.append([new_stream(f"{n}")])) for n in range(5)]
        big = [asyncio.create_task(log.append([StreamAppend(uuid4(), 0, large)])) for _ in range(4)]
        small += [asyncio.create_task(log.append([new_stream(f"{n}")])) for n in range(5, 10)]
        await asyncio.gather(busy, *small, *big)
        assert await log.head() == 11 + 4 * len(large)
    assert all(size <= writer.MAX_BATCH_BYTES for count, size in sizes if count > 1), sizes
    assert len([count for count, size in sizes if size > writer.MAX_BATCH_BYTES]) == 4


@pytest.mark.parametrize("code", ["event_too_large", "append_too_large"])
async def test_an_append_too_large_for_the_log_is_413(code: str) -> None:
    router = APIRouter()

    @router.get("/large")
    async def large() -> None:
        raise TooLarge(code, "more than may be")

    answer = await tiny(router).get("/large")
    assert (answer.status_code, answer.json()["code"]) == (413, code)
