"""Processes that decide about one stream take turns: none is kept from it by another that is
ahead, and none waits for one that has asked for precedence and died."""

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import groupby
from operator import itemgetter
from uuid import UUID, uuid4

import pytest

from eventstore.decide import decide
from eventstore.log import VersionConflict
from eventstore.postgres_log import PostgresLog
from eventstore.precedence import CHANNEL
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork
from tests.support.events.links import LINK, emit_link, link, names_of
from tests.support.events.notes import CODEC, admin
from tests.support.events.tail import SOON

CLIENTS, TIMES = 8, 150
"""Tasks in each process, and the decisions of each, one after another."""

MOST = CLIENTS * TIMES // 2
"""How many appends one process may make while the other waits."""


class Side:
    """One process that decides about a stream, and reads it as slowly as if it were far away: when
    it has lost, the other one comes first again, unless that gives way."""

    def __init__(self, log: PostgresLog, prefix: str, stream: UUID) -> None:
        self.repository = Repository(log)
        self.prefix = prefix
        self.stream = stream
        self.other = self

    def gives_way(self) -> bool:
        return self.repository.log.precedence.seconds_to_wait([self.stream]) > 0

    async def append(self, name: str) -> None:
        """Append one link."""

        async def decision(unit: UnitOfWork) -> None:
            await emit_link(unit, self.stream, f"{self.prefix}{name}")
            await self._be_overtaken(unit)

        await decide(self.repository, decision)

    async def _be_overtaken(self, unit: UnitOfWork) -> None:
        for _ in range(100):  # the other one may have nothing to do
            if not unit._outdated or self.other.gives_way():
                return
            if await self.repository.log.versions([self.stream]) > [unit.version(self.stream)]:
                return
            await asyncio.sleep(0.001)

    async def append_all(self) -> None:
        """Append TIMES links in each of CLIENTS tasks."""

        async def client(no: int) -> None:
            for n in range(TIMES):
                await self.append(f"{no}/{n}")

        await asyncio.gather(*(client(no) for no in range(CLIENTS)))


@pytest.fixture
async def sides(postgres_log: PostgresLog, database: str) -> AsyncIterator[tuple[Side, Side]]:
    stream = uuid4()
    async with PostgresLog.open(database, CODEC, pool_size=3) as other:
        here, there = Side(postgres_log, "a", stream), Side(other, "b", stream)
        here.other, there.other = there, here
        await link(here.repository, "0", stream)
        for side in (here, there):  # appends that rest on one another: now both listen
            elsewhere = uuid4()
            await asyncio.gather(*(link(side.repository, f"{n}", elsewhere) for n in range(9)))
        await there.repository.state(LINK, stream)
        yield here, there


def ask(database: str, stream: UUID) -> None:
    """As a process that dies at once."""
    admin(database, f"SELECT pg_notify('{CHANNEL}', '{stream}')")


async def until_heard(side: Side) -> None:
    """Wait until a process gives way."""
    deadline = time.monotonic() + SOON
    while not side.gives_way():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


async def test_two_processes_that_are_both_busy_with_a_stream_take_turns(
    sides: tuple[Side, Side], postgres_log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.precedence.SECONDS", 0.005)  # of a few appends
    here, there = sides
    async with asyncio.timeout(60):
        await asyncio.gather(here.append_all(), there.append_all())
    names = (await names_of(postgres_log, here.stream))[1:]
    assert len(names) == 2 * CLIENTS * TIMES
    # what follows when one side has ended is in nobody's way
    ends = [max(n for n, name in enumerate(names) if name[0] == side) for side in "ab"]
    runs = [len(list(run)) for _, run in groupby(names[: min(ends)], itemgetter(0))]
    assert max(runs) <= MOST, runs


async def test_a_process_that_keeps_losing_gets_precedence(sides: tuple[Side, Side]) -> None:
    here, there = sides
    await here.append("first")
    busy = asyncio.create_task(here.append_all())
    async with asyncio.timeout(SOON):
        await there.append("late")
    assert not busy.done()
    await busy


async def test_a_process_gives_way_at_one_stream_only(
    sides: tuple[Side, Side], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.precedence.SECONDS", 3600.0)
    here, _ = sides
    elsewhere = uuid4()
    ask(database, here.stream)
    await until_heard(here)
    held_up = asyncio.create_task(link(here.repository, "both", here.stream, elsewhere))
    await link(here.repository, "elsewhere", elsewhere)
    await link(here.repository, "elsewhere again", elsewhere)
    assert not held_up.done()
    held_up.cancel()
    await asyncio.wait([held_up])
    assert not here.repository.turns._locks


async def test_nobody_waits_for_one_that_asked_and_died(
    sides: tuple[Side, Side],
    database: str,
    postgres_log: PostgresLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eventstore.precedence.SECONDS", 1.0)  # not over before it is seen
    here, there = sides
    for side in (here, there):
        ask(database, here.stream)
        await until_heard(side)
        await asyncio.wait_for(side.append("1"), SOON)
    assert await names_of(postgres_log, here.stream) == ["0", "a1", "b1"]


async def test_a_notification_that_names_no_stream_is_ignored(
    sides: tuple[Side, Side], database: str
) -> None:
    here, _ = sides
    admin(database, f"SELECT pg_notify('{CHANNEL}', 'nonsense')")
    await here.append("1")
    assert not here.gives_way()


async def test_a_decision_that_keeps_losing_ends_in_time(
    sides: tuple[Side, Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is itself outdated each time, or rests on one that is."""
    monkeypatch.setattr("eventstore.decide.LOSING_SECONDS", 0.0)
    here, there = sides
    await here.append("1")
    with pytest.raises(VersionConflict):
        await there.append("1")
