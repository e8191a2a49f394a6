"""Decisions rest on the states that appends in flight will leave: nobody sees one before all of it
is in the log, and none rests on a state that never came to be."""

import asyncio
import gc
import multiprocessing
import random
import socket
import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from eventstore.decide import decide
from eventstore.flight import Flight
from eventstore.log import AlreadyDone, IdempotencyKey, LogUnavailable, StreamAppend, TooLarge
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork
from tests.support.events.links import LINK, emit_link, link, link_in_a_process, names_of
from tests.support.events.notes import CODEC, FILE, Filed, Noted, admin, noted
from tests.support.events.tail import SOON, WRITERS, hold_up, tail_held, until_waiting


@pytest.fixture
async def here(postgres_log: PostgresLog) -> Repository:
    return Repository(postgres_log)


async def until_decided(repository: Repository, stream: UUID, count: int) -> None:
    """Wait until this many appends to the stream are in flight."""
    deadline = time.monotonic() + SOON
    while len(repository.ahead._streams.get(stream, ())) < count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


def started(repository: Repository, names: str, *streams: UUID) -> list["asyncio.Task[Any]"]:
    return [asyncio.create_task(link(repository, name, *streams)) for name in names]


# -- resting on appends in flight ------------------------------------------------------------------


async def test_decisions_about_one_stream_share_a_commit(
    here: Repository, postgres_log: PostgresLog, database: str
) -> None:
    stream = uuid4()
    await link(here, "0", stream)
    with tail_held(database):
        tasks = started(here, "1", stream)
        await until_waiting(database)
        tasks += started(here, "23456789", stream)
        await until_decided(here, stream, 9)
        assert not any(task.done() for task in tasks), "nothing is in the log yet"
    await asyncio.gather(*tasks)
    assert await names_of(postgres_log, stream) == list("0123456789")
    times = {each.env.recorded_at for each in await postgres_log.read_stream(stream, 1)}
    assert len(times) == 2
    assert not here.turns._locks
    assert not here.ahead._streams


async def test_a_batch_is_cut_anywhere(
    here: Repository, postgres_log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.append.writer.MAX_BATCH", 7)
    streams = [uuid4() for _ in range(3)]
    chance = random.Random(1)
    picked = [chance.sample(streams, chance.randint(1, 3)) for _ in range(200)]
    await asyncio.gather(*(link(here, f"{n}", *some) for n, some in enumerate(picked)))
    for stream in streams:
        names = await names_of(postgres_log, stream)
        assert sorted(names) == sorted(f"{n}" for n, some in enumerate(picked) if stream in some)


async def test_a_refusal_waits_until_what_it_rests_on_is_in_the_log(
    here: Repository, database: str
) -> None:
    stream = uuid4()
    await link(here, "0", stream)

    async def refuse_after_1(unit: UnitOfWork) -> str:
        state = await unit.get(LINK, stream)
        if state.name == "1":
            raise TooLarge("refused", "the last is 1")
        return state.name

    async def look(unit: UnitOfWork) -> str:
        return (await unit.get(LINK, stream)).name

    with tail_held(database):
        tasks = started(here, "1", stream)
        await until_waiting(database)
        refused = asyncio.create_task(decide(here, refuse_after_1, refusal=TooLarge))
        looked = asyncio.create_task(decide(here, look))
        await asyncio.sleep(0.05)
        assert not refused.done()
        assert not looked.done()
    assert (await looked)[0] == "1"
    with pytest.raises(TooLarge):
        await refused
    await asyncio.gather(*tasks)


async def test_queries_never_see_a_state_that_is_not_in_the_log(
    here: Repository, database: str
) -> None:
    stream = uuid4()
    await link(here, "0", stream)
    with tail_held(database):
        tasks = started(here, "12", stream)
        await until_decided(here, stream, 2)
        for state in (await here.cached(LINK, stream), await here.state(LINK, stream)):
            assert state is not None
            assert state.name == "0"
    await asyncio.gather(*tasks)
    state = await here.cached(LINK, stream)
    assert state is not None
    assert state.name == "2"


async def test_a_stream_read_as_an_append_in_flight_will_leave_it(
    here: Repository, postgres_log: PostgresLog, database: str
) -> None:
    stream, filed = uuid4(), uuid4()

    async def file_last(unit: UnitOfWork) -> None:
        unit.create(FILE, filed, [Filed((await unit.get(LINK, stream)).name)])

    await link(here, "0", stream)
    with tail_held(database):
        tasks = started(here, "1", stream)
        await until_waiting(database)
        tasks += started(here, "2", stream)
        await until_decided(here, stream, 2)
        filing = asyncio.create_task(decide(here, file_last))
        await until_decided(here, filed, 1)
        tasks += started(here, "3", stream)
    await asyncio.gather(*tasks, filing)
    assert (await postgres_log.read_stream(filed))[0].event == Filed("2")
    assert await names_of(postgres_log, stream) == list("0123")


# -- what fails, and what rests on it --------------------------------------------------------------


async def test_a_repeated_request_takes_none_with_it_that_rested_on_it(
    here: Repository, postgres_log: PostgresLog, database: str
) -> None:
    stream, once = uuid4(), IdempotencyKey(uuid4())
    await link(here, "0", stream, once=once)
    with tail_held(database):
        tasks = started(here, "1", stream)
        await until_waiting(database)
        repeated = asyncio.create_task(link(here, "again", stream, once=once))
        await until_decided(here, stream, 2)
        tasks += started(here, "234", stream)
        await until_decided(here, stream, 5)
    with pytest.raises(AlreadyDone):
        await repeated
    await asyncio.gather(*tasks)
    assert sorted(await names_of(postgres_log, stream)) == list("01234")


@pytest.mark.parametrize("how", ["appended first", "changed what was read"])
async def test_another_process_wins_and_all_that_rested_on_the_loser_is_decided_anew(
    here: Repository, postgres_log: PostgresLog, database: str, how: str
) -> None:
    stream, rule = uuid4(), uuid4()
    await link(here, "0", stream)
    await link(here, "rule 0", rule)

    async def as_ruled(unit: UnitOfWork) -> None:
        ruled = await unit.get(LINK, rule)
        await emit_link(unit, stream, f"1 by {ruled.name}")

    async with PostgresLog.open(database, CODEC, pool_size=1) as other:
        there, moved = Repository(other), stream if how == "appended first" else rule
        await there.state(LINK, moved)
        with tail_held(database):
            foreign = asyncio.create_task(link(there, "foreign", moved))
            await until_waiting(database)
            first = asyncio.create_task(decide(here, as_ruled))
            await until_waiting(database, 2)
            tasks = started(here, "234", stream)
            await until_decided(here, stream, 4)
        await asyncio.gather(foreign, first, *tasks)
    names = await names_of(postgres_log, stream)
    ruled = "rule 0" if how == "appended first" else "foreign"
    assert sorted(set(names) - {"foreign"}) == ["0", f"1 by {ruled}", "2", "3", "4"]
    assert how != "appended first" or names[1] == "foreign"


async def test_what_was_only_read_is_checked_also_among_appends_that_rest_on_each_other(
    here: Repository, postgres_log: PostgresLog, database: str
) -> None:
    stream, rule, ruled = uuid4(), uuid4(), uuid4()
    await link(here, "rule 0", rule)

    async def as_ruled(unit: UnitOfWork) -> None:
        await emit_link(unit, ruled, f"by {(await unit.get(LINK, rule)).name}")

    async with PostgresLog.open(database, CODEC, pool_size=1) as other:
        there = Repository(other)
        await there.state(LINK, rule)
        with tail_held(database):
            foreign = asyncio.create_task(link(there, "foreign", rule))
            await until_waiting(database)
            busy = asyncio.create_task(link(here, "busy", uuid4()))
            await until_waiting(database, 2)
            tasks = [asyncio.create_task(decide(here, as_ruled)), *started(here, "12", stream)]
            await until_decided(here, stream, 2)
        await asyncio.gather(foreign, busy, *tasks)
    assert await names_of(postgres_log, ruled) == ["by foreign"]
    assert await names_of(postgres_log, stream) == ["1", "2"]


async def test_a_caller_that_leaves_takes_none_with_it_that_rested_on_its_append(
    here: Repository, postgres_log: PostgresLog, database: str
) -> None:
    stream = uuid4()
    await link(here, "0", stream)
    with tail_held(database):
        tasks = started(here, "1", stream)
        await until_waiting(database)
        leaver = asyncio.create_task(link(here, "left", stream))
        await until_decided(here, stream, 2)
        tasks += started(here, "23", stream)
        await until_decided(here, stream, 4)
        leaver.cancel()
    await asyncio.gather(*tasks)
    assert leaver.cancelled()
    assert sorted(await names_of(postgres_log, stream)) == list("0123")


async def test_an_append_that_fails_on_its_way_to_the_writer_takes_none_with_it(
    here: Repository, postgres_log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one whose person's key is looked for, and not found."""
    stream, going_on = uuid4(), asyncio.Event()
    await link(here, "0", stream)
    hold_up(
        postgres_log, "bad", going_on, monkeypatch, TooLarge("event_too_large", "so it happens")
    )
    bad = asyncio.create_task(link(here, "bad", stream))
    await until_decided(here, stream, 1)
    tasks = started(here, "12", stream)
    await until_decided(here, stream, 3)
    going_on.set()
    with pytest.raises(TooLarge):
        await bad
    async with asyncio.timeout(SOON):
        await asyncio.gather(*tasks)
    assert await names_of(postgres_log, stream) == list("012")


async def test_who_is_overtaken_on_the_way_to_the_writer_is_waited_for(
    here: Repository, postgres_log: PostgresLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, going_on = uuid4(), asyncio.Event()
    await link(here, "0", stream)
    hold_up(postgres_log, "slow", going_on, monkeypatch)
    slow = asyncio.create_task(link(here, "slow", stream))
    await until_decided(here, stream, 1)
    names = [f"{n}" for n in range(1, 600)]  # more than a batch holds
    tasks = [asyncio.create_task(link(here, name, stream)) for name in names]
    await until_decided(here, stream, 600)
    elsewhere = await link(here, "elsewhere", uuid4())
    assert elsewhere.position == 2
    going_on.set()
    await asyncio.gather(slow, *tasks)
    assert await names_of(postgres_log, stream) == ["0", "slow", *names]


async def test_what_another_process_appends_is_not_taken_for_what_is_still_on_its_way(
    here: Repository, postgres_log: PostgresLog, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """Both have the version at which a decision expects the stream."""
    stream, going_on = uuid4(), asyncio.Event()
    await link(here, "0", stream)
    hold_up(postgres_log, "slow", going_on, monkeypatch)
    slow = asyncio.create_task(link(here, "slow", stream))
    await until_decided(here, stream, 1)
    tasks = started(here, "12", stream)
    await until_decided(here, stream, 3)
    async with PostgresLog.open(database, CODEC, pool_size=1) as there:
        await link(Repository(there), "foreign", stream)
    await link(here, "elsewhere", uuid4())  # the writer has looked at what waits
    going_on.set()
    await asyncio.gather(slow, *tasks)
    names = await names_of(postgres_log, stream)
    assert names[:2] == ["0", "foreign"]
    assert sorted(names[2:]) == ["1", "2", "slow"]


async def test_an_append_whose_answer_was_lost_is_built_upon_only_if_it_is_in_the_log(
    here: Repository, postgres_log: PostgresLog, database: str
) -> None:
    stream = uuid4()
    await link(here, "0", stream)
    with tail_held(database):
        tasks = started(here, "1", stream)
        await until_waiting(database)
        tasks += started(here, "234", stream)
        await until_decided(here, stream, 4)
        hang_up(postgres_log)
        await until_waiting(database, 2)
        tasks += started(here, "5", stream)
    await asyncio.wait_for(asyncio.gather(*tasks), SOON)
    assert await names_of(postgres_log, stream) == list("012345")


def hang_up(log: PostgresLog) -> None:
    """Cut the writer's connection on our side, as a network failure does."""
    pipeline = log._writer._sender._pipeline
    if pipeline is not None and not pipeline.lost:
        line = socket.socket(fileno=pipeline._socket)
        line.shutdown(socket.SHUT_RDWR)
        line.detach()


async def test_when_the_database_does_not_take_it_nobody_waits_for_long(
    here: Repository, postgres_log: PostgresLog, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.append.writer.APPEND_TIMEOUT_SECONDS", 0.2)
    stream = uuid4()
    await link(here, "0", stream)
    with tail_held(database):
        tasks = started(here, "123456", stream)
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), SOON)
        assert all(isinstance(outcome, LogUnavailable) for outcome in outcomes), outcomes
    await link(here, "7", stream)
    names = await names_of(postgres_log, stream)
    assert (names[0], names[-1]) == ("0", "7")


# -- everything at once ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["backend killed", "line cut", "nothing"])
async def test_in_a_storm_no_event_rests_on_what_is_not_in_the_log_and_every_answer_is_true(
    here: Repository, postgres_log: PostgresLog, database: str, how: str
) -> None:
    chance, streams, storms = random.Random(4910), [uuid4() for _ in range(3)], 0
    landed: dict[str, list[UUID]] = {}
    unsure: set[str] = set()
    progress = asyncio.Event()

    async def caller(repository: Repository, no: str) -> None:
        once = None
        for n in range(20):
            name, some = f"{no}/{n}", chance.sample(streams, chance.randint(1, 2))
            if n % 5:
                once = IdempotencyKey(uuid4())
            try:
                if n % 7 == 3:
                    async with asyncio.timeout(chance.uniform(0, 0.02)):
                        await link(repository, name, *some, once=once)
                else:
                    await link(repository, name, *some, once=once)
                landed[name] = some
            except AlreadyDone:
                pass
            except (LogUnavailable, TimeoutError):
                unsure.add(name)
            progress.set()

    async def storm() -> None:
        nonlocal storms
        while how != "nothing":
            await progress.wait()
            progress.clear()
            await asyncio.sleep(chance.uniform(0, 0.02))
            storms += 1
            if how == "line cut":
                hang_up(postgres_log)
            else:
                kill = f"SELECT pg_terminate_backend(pid) FROM ({WRITERS}) w"
                await asyncio.to_thread(admin, database, kill)

    disturbance = asyncio.create_task(storm())
    async with PostgresLog.open(database, CODEC, pool_size=2) as other:
        there = Repository(other)
        callers = [caller(there if n % 4 == 3 else here, f"{n}") for n in range(12)]
        await asyncio.wait_for(asyncio.gather(*callers), 120)
    disturbance.cancel()
    names = {stream: await names_of(postgres_log, stream) for stream in streams}
    assert len(landed) > 100
    for name, some in landed.items():
        assert [name in names[stream] for stream in streams] == [s in some for s in streams]
    assert {name for each in names.values() for name in each} <= landed.keys() | unsure
    assert not here.ahead._streams


async def test_two_processes_go_on_about_the_same_streams(
    postgres_log: PostgresLog, database: str
) -> None:
    streams, times = [uuid4(), uuid4()], 150
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=link_in_a_process, args=(database, prefix, streams, times))
        for prefix in "ab"
    ]
    for process in processes:
        process.start()
    await asyncio.gather(*(asyncio.to_thread(process.join, 60) for process in processes))
    assert [process.exitcode for process in processes] == [0, 0]
    for stream in streams:
        names = await names_of(postgres_log, stream)
        assert sorted(names) == sorted(f"{p}{n}" for p in "ab" for n in range(times))


async def test_nothing_is_kept_of_appends_that_are_over(here: Repository) -> None:
    stream = uuid4()
    for _ in range(5):
        await asyncio.gather(*(link(here, f"{uuid4()}", stream) for _ in range(100)))
    gc.collect()
    assert len([each for each in gc.get_objects() if isinstance(each, Flight)]) < 10
    assert not here.ahead._streams


async def test_an_append_that_rests_on_nothing_does_not_wait(
    postgres_log: PostgresLog, database: str
) -> None:
    """Versions that somebody names without having loaded them are in one order."""
    stream = uuid4()
    with tail_held(database):
        tasks = [
            asyncio.create_task(postgres_log.append([StreamAppend(stream, n, noted(f"{n}"))]))
            for n in range(5)
        ]
        await until_waiting(database)
    await asyncio.gather(*tasks)
    assert [each.event for each in await postgres_log.read_stream(stream)] == [
        Noted(f"{n}") for n in range(5)
    ]
