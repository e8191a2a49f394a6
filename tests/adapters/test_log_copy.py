"""The log moves from PostgreSQL to KurrentDB and back, and stays the same to the byte."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from adapters.kurrentdb import log_copy
from adapters.kurrentdb.log_copy import CopyError, to_kurrentdb, to_postgresql
from eventstore.chain import digest, link
from eventstore.log import IdempotencyKey, Metadata, StreamAppend
from eventstore.postgres_log import PostgresLog
from tests.support.events.notes import CODEC, Counted, Noted
from tests.support.servers import shared
from tests.support.servers.kurrent import KurrentDouble

TABLES = ("SELECT * FROM log.events ORDER BY position", "SELECT * FROM log.once ORDER BY key")


@pytest.fixture
def kurrent() -> Iterator[KurrentDouble]:
    with KurrentDouble() as double:
        yield double


@pytest.fixture
def target(postgres_url: str, postgres_template: str) -> Iterator[str]:
    """Another database, with the program's schema and no rows."""
    url = shared.create_database(postgres_url, template=postgres_template)
    yield url
    shared.drop_database(url)


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_copy, "PAGE_EVENTS", 7)


def quiet(_what: str, _done: int, _total: int) -> None:
    """No progress."""


class Killed(BaseException):
    """Ends a copy where it is."""


def killed_after(steps: int) -> log_copy.Progress:
    left = iter(range(steps))

    def progress(_what: str, _done: int, _total: int) -> None:
        if next(left, None) is None:
            raise Killed

    return progress


def rows(url: str) -> list[list[tuple[Any, ...]]]:
    with psycopg.connect(url) as conn:
        return [conn.execute(query.encode()).fetchall() for query in TABLES]


async def fill(url: str, first: int = 0, streams: int = 10) -> None:
    """Streams of three events, of two appends each, the second under a key."""
    async with PostgresLog.open(url, CODEC, pool_size=2) as log:
        for number in range(first, first + streams):
            stream, text = uuid4(), "ñ" * number
            cause = Metadata(
                f"user:{number}", uuid4(), uuid4() if number % 2 else None, "00-a-b-01"
            )
            await log.append([StreamAppend(stream, 0, [Noted(text), Counted(number)])], cause)
            expires = datetime.now(UTC) + timedelta(days=1) if number % 2 else None
            once = IdempotencyKey(uuid4(), bytes([number]), {"id": text}, expires)
            await log.append([StreamAppend(stream, 2, [Noted(text)])], once=once)


def of_release_1(url: str) -> None:
    """Let the last event have no time of its decision, as those of the first release."""
    with psycopg.connect(url) as conn:
        conn.execute("ALTER TABLE log.events DISABLE TRIGGER append_only")
        last = conn.execute(TABLES[0].encode() + b" DESC LIMIT 1").fetchone()
        assert last is not None
        position, *described, at, _, _ = last
        before = conn.execute(
            "SELECT hash FROM log.events WHERE position = %s", (position - 1,)
        ).fetchone()
        assert before is not None
        summary = digest(*[*described, None])
        conn.execute(
            "UPDATE log.events SET occurred_at = NULL, hash = %s WHERE position = %s",
            (link(before[0], position, at, summary), position),
        )
        conn.execute("ALTER TABLE log.events ENABLE ALWAYS TRIGGER append_only")


async def test_a_log_moves_to_kurrentdb_and_back(
    kurrent: KurrentDouble, database: str, target: str
) -> None:
    await fill(database)
    of_release_1(database)
    there = await to_kurrentdb(database, kurrent.url, quiet)
    back = await to_postgresql(kurrent.url, target, CODEC, quiet)
    assert rows(target) == rows(database)
    assert there == back
    assert (there.position, there.hash) == (30, rows(database)[0][-1][11])


async def test_a_copy_that_was_killed_goes_on(
    kurrent: KurrentDouble, database: str, target: str
) -> None:
    await fill(database)
    with pytest.raises(Killed):
        await to_kurrentdb(database, kurrent.url, killed_after(2))
    await fill(database, 10, 3)
    appends = kurrent.calls["AppendRecords"]
    await to_kurrentdb(database, kurrent.url, quiet)
    assert kurrent.calls["AppendRecords"] - appends == 3  # of 18 events, those that it lacked

    with pytest.raises(Killed):
        await to_postgresql(kurrent.url, target, CODEC, killed_after(0))
    await to_postgresql(kurrent.url, target, CODEC, quiet)
    assert rows(target) == rows(database)


@pytest.mark.parametrize("committed", [True, False], ids=["taken", "lost"])
async def test_an_append_whose_answer_is_lost_is_copied_once(
    kurrent: KurrentDouble, database: str, target: str, committed: bool
) -> None:
    await fill(database)
    for _ in range(4):
        kurrent.cut_next_append(committed=committed)
    await to_kurrentdb(database, kurrent.url, quiet)
    await to_postgresql(kurrent.url, target, CODEC, quiet)
    assert rows(target) == rows(database)


async def test_a_target_with_another_history_is_refused(
    kurrent: KurrentDouble, database: str, target: str
) -> None:
    await fill(database)
    await fill(target)
    await to_kurrentdb(database, kurrent.url, quiet)
    before = rows(target)
    with pytest.raises(CopyError, match="another event at position 1 "):
        await to_postgresql(kurrent.url, target, CODEC, quiet)
    with pytest.raises(CopyError, match="another history"):
        await to_kurrentdb(target, kurrent.url, quiet)
    assert rows(target) == before


async def test_a_target_that_has_more_is_refused(kurrent: KurrentDouble, database: str) -> None:
    await fill(database, 0, 3)
    await to_kurrentdb(database, kurrent.url, quiet)
    await fill(database, 3, 1)
    with pytest.raises(CopyError, match="events 10 to 12, which KurrentDB lacks"):
        await to_postgresql(kurrent.url, database, CODEC, quiet)


async def test_a_copy_that_differs_is_not_verified(kurrent: KurrentDouble, database: str) -> None:
    await fill(database)
    await to_kurrentdb(database, kurrent.url, quiet)
    with psycopg.connect(database) as conn:
        conn.execute("ALTER TABLE log.events DISABLE TRIGGER append_only")
        conn.execute("UPDATE log.events SET hash = sha256('other') WHERE position = 30")
        conn.execute("ALTER TABLE log.events ENABLE ALWAYS TRIGGER append_only")
    with pytest.raises(CopyError, match="the copy differs at position 30"):
        await to_kurrentdb(database, kurrent.url, quiet)
