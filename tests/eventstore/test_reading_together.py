"""What is asked for at the same time is read by few statements."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from eventstore.log import FIRST_EVENTS, STREAM_PAGE, StreamAppend
from eventstore.pages import SMALL_EVENT_BYTES
from eventstore.postgres_log import PostgresLog
from tests.support.events.notes import CODEC, Noted
from tests.support.statements import statements

AT_ONCE = 20


@pytest.fixture
async def log(database: str) -> AsyncIterator[PostgresLog]:
    async with PostgresLog.open(database, CODEC, pool_size=2) as log:
        yield log


async def _noted(log: PostgresLog, count: int, text: str = "short") -> UUID:
    stream = uuid4()
    await log.append([StreamAppend(stream, 0, [Noted(text)] * count)])
    return stream


def _of_the_log(sent: list[str]) -> int:
    """How many statements read events: connections are made and looked after meanwhile."""
    return sum("FROM log.events" in each for each in sent)


async def test_streams_of_all_lengths_are_read_whole(log: PostgresLog) -> None:
    lengths = (1, FIRST_EVENTS - 1, FIRST_EVENTS, FIRST_EVENTS + 1, STREAM_PAGE + FIRST_EVENTS + 1)
    streams = [await _noted(log, length) for length in lengths]
    streams += [uuid4(), await _noted(log, 2, "x" * SMALL_EVENT_BYTES), await _noted(log, 1)]
    head = await log.head()
    for upto in (None, head, head - 2, FIRST_EVENTS, 1, 0):
        found = [raw async for page in log.read_whole_streams(streams, upto=upto) for raw in page]
        for stream in streams:
            of_stream = [raw for raw in found if raw[0].stream_id == stream]
            assert of_stream == await log.read_stream_raw(stream, upto=upto)


async def test_many_short_streams_are_read_by_one_statement(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = [await _noted(log, 3) for _ in range(AT_ONCE)]
    with statements(monkeypatch) as sent:
        pages = [page async for page in log.read_whole_streams(streams)]
    assert [len(page) for page in pages] == [3 * AT_ONCE]
    assert _of_the_log(sent) == 1


async def test_whoever_asks_at_once_where_the_log_ends_shares_the_answer(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _noted(log, 3)
    with statements(monkeypatch) as sent:
        assert await asyncio.gather(*(log.head() for _ in range(AT_ONCE))) == [3] * AT_ONCE
    assert _of_the_log(sent) == 1


async def test_whoever_asks_at_once_what_was_declared_shares_two_looks(
    log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    with statements(monkeypatch) as sent:
        await asyncio.gather(*(log.amendments.look() for _ in range(AT_ONCE)))
    assert _of_the_log(sent) == 2
