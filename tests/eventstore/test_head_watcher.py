"""The watcher of the log's head asks the database only for those who wait, and keeps nobody
waiting."""

import asyncio

import psycopg
import pytest

from eventstore import head
from eventstore.postgres_log import PostgresLog
from tests.support.events.notes import new_stream

SOON = 10
NEVER = 3_600.0


@pytest.fixture(autouse=True)
def _no_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only notifications wake the watcher."""
    monkeypatch.setattr(head, "POLL_SECONDS", NEVER)


async def _append(log: PostgresLog) -> int:
    return (await log.append([new_stream("one more")])).position


async def _beyond(log: PostgresLog, position: int) -> int:
    return await asyncio.wait_for(log.watcher.beyond(position), SOON)


async def test_a_waiter_that_comes_after_the_log_has_grown_returns_at_once(
    postgres_log: PostgresLog,
) -> None:
    first = await _append(postgres_log)
    assert await _beyond(postgres_log, first - 1) == first
    for _ in range(5):
        last = await _append(postgres_log)
    assert await _beyond(postgres_log, last - 1) == last


async def test_a_waiter_wakes_at_each_append(postgres_log: PostgresLog) -> None:
    position = await _append(postgres_log)
    await _beyond(postgres_log, position - 1)
    for _ in range(20):
        waiting = asyncio.create_task(_beyond(postgres_log, position))
        await asyncio.sleep(0)
        position = await _append(postgres_log)
        assert await waiting == position


async def test_while_nobody_waits_the_head_is_not_asked_for(
    postgres_log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = await _append(postgres_log)
    await _beyond(postgres_log, position - 1)
    asked, ask = [], postgres_log.history.head

    async def counted(conn: psycopg.AsyncConnection) -> int:
        asked.append(conn)
        return await ask(conn)

    monkeypatch.setattr(postgres_log.history, "head", counted)
    for _ in range(20):
        position = await _append(postgres_log)
    assert await _beyond(postgres_log, position - 1) == position
    # once for the previous waiter, whose wait may have begun anew, and once for this one
    assert len(asked) <= 2


async def test_a_notification_without_a_position_wakes_all_the_same(
    postgres_log: PostgresLog, database: str
) -> None:
    position = await _append(postgres_log)
    await _beyond(postgres_log, position - 1)
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        await conn.execute("NOTIFY ludoteca_log")
        await conn.execute("NOTIFY ludoteca_log, 'something else'")
    later = await _append(postgres_log)
    assert await _beyond(postgres_log, position) == later
