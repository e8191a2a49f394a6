"""Decisions on aggregates: cached, contended or refused, they are always as if made on the log's
current state."""

import asyncio
import multiprocessing
from typing import Any
from uuid import UUID, uuid4

import pytest

from eventstore.aggregate import Aggregate, NoSuchStream, UnexpectedVersion
from eventstore.decide import decide
from eventstore.log import (
    AlreadyDone,
    Appended,
    IdempotencyKey,
    Recorded,
    StreamAppend,
    VersionConflict,
    WrongKind,
)
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from eventstore.snapshots import Snapshots
from eventstore.unit_of_work import UnitOfWork
from tests.support.events.notes import FILE, TALLY, Counted, File, Filed, Tally, admin, evolve
from tests.support.processes.contenders import contend, count


class TooMuch(Exception):
    """A refusal of the tests."""


@pytest.fixture
async def here(postgres_log: PostgresLog) -> Repository:
    return Repository(postgres_log)


@pytest.fixture
async def there(postgres_log: PostgresLog) -> Repository:
    """A second repository with its own cache, like another process."""
    return Repository(postgres_log)


async def _total(repository: Repository, stream: UUID) -> int:
    state = await repository.state(TALLY, stream)
    assert state is not None
    return state.total


class Reads:
    """Counts what a repository reads from its log."""

    def __init__(self, log: PostgresLog) -> None:
        self._log = log
        self.after: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    async def read_stream_page(
        self, stream_id: UUID, after_version: int = 0, **said: object
    ) -> tuple[list[Recorded], bool]:
        self.after.append(after_version)
        return await self._log.read_stream_page(stream_id, after_version, **said)  # type: ignore[arg-type]

    async def read_first_events(
        self, stream_id: UUID, after_version: int = 0, **said: object
    ) -> tuple[list[Recorded], bool]:
        self.after.append(after_version)
        return await self._log.read_first_events(stream_id, after_version, **said)  # type: ignore[arg-type]


# -- deciding --------------------------------------------------------------------------------------


async def test_a_decision_is_appended_whole_over_all_its_streams(here: Repository) -> None:
    one, other = uuid4(), uuid4()

    async def both(unit: UnitOfWork) -> str:
        unit.create(TALLY, one, [Counted(1)])
        unit.create(TALLY, other, [Counted(2)])
        unit.emit(one, [Counted(3)])
        unit.record_ids(made=one)
        return "done"

    once = IdempotencyKey(uuid4(), b"f", {"asked": "x"})
    result, appended = await decide(here, both, once=once)
    assert result == "done"
    assert appended is not None
    assert (await _total(here, one), await _total(here, other)) == (4, 2)
    done = await here.log.done(once.key)
    assert done is not None
    assert done.result_ids == {"asked": "x", "made": str(one)}


async def test_a_unit_sees_what_it_has_emitted(here: Repository) -> None:
    stream = uuid4()

    async def decision(unit: UnitOfWork) -> Tally | None:
        unit.create(TALLY, stream, [Counted(5)])
        return await unit.load(TALLY, stream)

    assert (await decide(here, decision))[0] == Tally(5, 1)


async def test_a_decision_that_emits_nothing_appends_nothing(here: Repository) -> None:
    async def nothing(unit: UnitOfWork) -> int:
        return 7

    assert await decide(here, nothing, once=IdempotencyKey(uuid4())) == (7, None)
    assert await here.log.head() == 0


async def test_what_a_failed_decision_emitted_is_not_remembered(here: Repository) -> None:
    stream = uuid4()
    await count(here, stream, 1)

    async def fails(unit: UnitOfWork) -> None:
        await unit.load(TALLY, stream)
        unit.emit(stream, [Counted(100)])
        raise TooMuch

    with pytest.raises(TooMuch):
        await decide(here, fails)
    assert await _total(here, stream) == 1


async def test_a_stream_that_has_to_exist_is_missed_by_its_kind(here: Repository) -> None:
    stream = uuid4()
    kept = Aggregate("test", Tally, evolve, missing=TooMuch)

    async def nobodys(unit: UnitOfWork) -> None:
        await unit.get(kept, stream)

    with pytest.raises(TooMuch) as first:
        await decide(here, nobodys)
    with pytest.raises(TooMuch) as second:
        await here.get(kept, stream)
    assert first.value is not second.value
    with pytest.raises(NoSuchStream):
        await here.get(TALLY, stream)
    await count(here, stream, 5)
    assert await here.get(kept, stream) == Tally(5, 1)
    assert await here.get_versioned(kept, stream, fresh=False) == (1, Tally(5, 1))


@pytest.mark.parametrize("expected", [None, 2])
async def test_the_expected_version_is_the_one_that_was_loaded(
    here: Repository, expected: int | None
) -> None:
    stream = uuid4()
    await count(here, stream, 1)
    await count(here, stream, 1)

    async def decision(unit: UnitOfWork) -> None:
        await unit.get(TALLY, stream)
        unit.emit(stream, [Counted(5)])
        unit.expect(stream, expected)

    await decide(here, decision)
    assert await _total(here, stream) == 7


async def test_another_version_than_expected_is_refused(
    here: Repository, there: Repository
) -> None:
    stream = uuid4()
    await count(here, stream, 1)
    await count(there, stream, 1)  # which `here` has not seen

    async def decision(unit: UnitOfWork) -> None:
        await unit.get(TALLY, stream)
        unit.expect(stream, 1)

    with pytest.raises(UnexpectedVersion) as refusal:
        await decide(here, decision)
    assert refusal.value.version == 2


# -- the cache -------------------------------------------------------------------------------------


async def test_a_stream_that_was_decided_on_is_not_read_again(postgres_log: PostgresLog) -> None:
    reads = Reads(postgres_log)
    repository, stream = Repository(reads), uuid4()  # type: ignore[arg-type]
    for _ in range(4):
        await count(repository, stream, 1)
    assert reads.after == [0], "only the first decision had to look"


async def test_a_stale_cache_does_not_lose_what_others_appended(
    here: Repository, there: Repository
) -> None:
    stream = uuid4()
    await count(here, stream, 1)
    await count(there, stream, 10)
    await count(here, stream, 100)
    await count(there, stream, 1000)
    assert await _total(here, stream) == await _total(there, stream) == 1111


async def test_after_a_conflict_only_what_has_moved_on_is_read_again(
    postgres_log: PostgresLog, there: Repository
) -> None:
    reads = Reads(postgres_log)
    here, streams = Repository(reads), [uuid4() for _ in range(5)]  # type: ignore[arg-type]
    for stream in streams:
        await count(here, stream, 1)
    reads.after.clear()
    await count(there, streams[2], 10)

    async def count_all(unit: UnitOfWork) -> list[int]:
        totals = [(await unit.get(TALLY, stream)).total for stream in streams]
        for stream in streams:
            unit.emit(stream, [Counted(1)])
        return totals

    assert (await decide(here, count_all))[0] == [1, 1, 11, 1, 1]
    assert reads.after == [1]


async def _spend(unit: UnitOfWork, stream: UUID, amount: int) -> None:
    state = await unit.load(TALLY, stream)
    if state is None or state.total < amount:
        raise TooMuch
    unit.emit(stream, [Counted(-amount)])


async def test_a_refusal_on_a_stale_cache_is_decided_again_on_what_the_log_says(
    here: Repository, there: Repository
) -> None:
    stream = uuid4()
    await count(here, stream, 1)
    await count(there, stream, 50)
    await decide(here, lambda unit: _spend(unit, stream, 40), refusal=TooMuch)
    assert await _total(here, stream) == 11


async def test_a_final_refusal_is_raised(here: Repository, there: Repository) -> None:
    stream = uuid4()
    await count(here, stream, 1)
    await count(there, stream, 50)
    with pytest.raises(TooMuch):
        await decide(here, lambda unit: _spend(unit, stream, 60), refusal=TooMuch)


async def test_doing_nothing_because_of_a_stale_cache_is_decided_again(
    here: Repository, there: Repository
) -> None:
    stream = uuid4()
    await count(here, stream, 5)
    await count(there, stream, -5)

    async def fill_up(unit: UnitOfWork) -> None:
        state = await unit.load(TALLY, stream)
        assert state is not None
        if state.total < 5:
            unit.emit(stream, [Counted(5 - state.total)])

    await decide(here, fill_up)
    assert await _total(there, stream) == 5


async def test_a_decision_does_not_rest_on_a_stale_stream_that_it_only_reads(
    here: Repository, there: Repository
) -> None:
    price, order = uuid4(), uuid4()
    await count(here, price, 10)
    await count(there, price, 5)

    async def place(unit: UnitOfWork) -> None:
        at = await unit.load(TALLY, price)
        assert at is not None
        unit.create(TALLY, order, [Counted(at.total)])

    await decide(here, place)
    assert await _total(here, order) == 15


@pytest.mark.parametrize(
    ("checks", "tries"), [([False], 1), ([False, False], 1), ([False, True], 2), ([True, False], 2)]
)
async def test_what_need_not_be_checked_may_have_moved_on(
    here: Repository, there: Repository, checks: list[bool], tries: int
) -> None:
    read, written = uuid4(), uuid4()
    await count(here, read, 1)
    await count(there, read, 1)  # which `here` has not seen
    seen: list[Tally | None] = []

    async def decision(unit: UnitOfWork) -> None:
        for check in checks:
            state = await unit.load(TALLY, read, check=check)
        seen.append(state)
        unit.create(TALLY, written, [Counted(1)])

    await decide(here, decision)
    assert seen == [Tally(1, 1), Tally(2, 2)][:tries]


async def test_that_there_is_no_such_stream_is_always_checked(
    here: Repository, there: Repository
) -> None:
    read, written = uuid4(), uuid4()
    seen: list[Tally | None] = []

    async def decision(unit: UnitOfWork) -> None:
        seen.append(await unit.load(TALLY, read, check=False))
        unit.create(TALLY, written, [Counted(1)])
        if len(seen) == 1:
            await count(there, read, 1)

    await decide(here, decision)
    assert seen == [None, Tally(1, 1)]


async def test_the_cache_keeps_no_more_than_its_size(postgres_log: PostgresLog) -> None:
    repository = Repository(postgres_log, cache_size=3)
    streams = [uuid4() for _ in range(10)]
    for stream in streams:
        await count(repository, stream, 1)
    assert len(repository._cache) == 3
    assert [await _total(repository, stream) for stream in streams] == [1] * 10


async def test_a_failure_on_a_stale_cache_whatever_it_is_is_decided_again_on_what_the_log_says(
    here: Repository, there: Repository
) -> None:
    stream = uuid4()
    await count(here, stream, 1)
    await count(there, stream, 1)

    async def fails_at_one(unit: UnitOfWork) -> int:
        state = await unit.load(TALLY, stream)
        assert state is not None
        unit.emit(stream, [Counted(1)])
        return 10 // (state.total - 1)

    assert (await decide(here, fails_at_one, refusal=TooMuch))[0] == 10
    assert await _total(there, stream) == 3


async def test_a_final_failure_is_raised(here: Repository) -> None:
    stream = uuid4()
    await count(here, stream, 1)

    async def fails(unit: UnitOfWork) -> None:
        await unit.load(TALLY, stream)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await decide(here, fails, refusal=TooMuch)


# -- kinds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cached", [False, True])
async def test_a_stream_loaded_as_another_kind_is_not_there(
    here: Repository, there: Repository, cached: bool
) -> None:
    stream = uuid4()
    await count(here, stream, 1)
    repository = here if cached else there

    async def as_both(unit: UnitOfWork) -> tuple[File | None, Tally | None, File | None]:
        return (
            await unit.load(FILE, stream),
            await unit.load(TALLY, stream),
            await unit.load(FILE, stream),
        )

    assert (await decide(repository, as_both))[0] == (None, Tally(1, 1), None)
    for look in (repository.state, repository.cached, repository.rehydrate):
        assert await look(FILE, stream) is None


async def test_to_look_at_a_stream_as_another_kind_leaves_no_stale_state_behind(
    here: Repository, there: Repository
) -> None:
    """Otherwise a caller who can have any id looked up could have a rule decided on an outdated
    state."""
    stream = uuid4()
    await count(here, stream, 5)
    await count(there, stream, -5)
    assert await here.state(FILE, stream) is None
    with pytest.raises(TooMuch):
        await decide(here, lambda unit: _spend(unit, stream, 1), refusal=TooMuch)
    assert await _total(there, stream) == 0


async def test_that_a_stream_is_of_another_kind_is_relied_upon(here: Repository) -> None:
    """A decision may rest on a thing's absence: no stream of another kind may appear meanwhile."""
    stream, made = uuid4(), uuid4()
    await count(here, stream, 1)

    async def decision(unit: UnitOfWork) -> None:
        if await unit.load(FILE, stream) is None:
            unit.create(FILE, made, [Filed("x")])

    await decide(here, decision)
    assert await here.state(FILE, made) == File("x")


@pytest.mark.parametrize("known", [False, True])
async def test_nothing_of_another_kind_is_appended_to_a_stream(
    here: Repository, known: bool
) -> None:
    stream = uuid4()
    await count(here, stream, 1)

    async def decision(unit: UnitOfWork) -> None:
        await unit.load(TALLY if known else FILE, stream)
        unit.emit(stream, [Filed("x")])

    with pytest.raises(WrongKind):
        await decide(here, decision)
    assert await here.state(TALLY, stream) == Tally(1, 1)


# -- contention ------------------------------------------------------------------------------------


async def test_fifty_tasks_on_one_aggregate_all_have_their_turn(here: Repository) -> None:
    stream = uuid4()
    await asyncio.gather(*(count(here, stream, 1) for _ in range(50)))
    assert await here.state(TALLY, stream) == Tally(50, 50)
    assert not here.turns._locks, "who waited has left"


async def test_decisions_that_begin_at_once_are_not_refused_by_the_log(
    here: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = uuid4()
    await count(here, stream, 1)
    append, refused = here.log.append, []

    async def watched_append(*arguments: Any, **named: Any) -> Appended:
        try:
            return await append(*arguments, **named)
        except VersionConflict as conflict:
            refused.append(conflict)
            raise

    monkeypatch.setattr(here.log, "append", watched_append)
    await asyncio.gather(*(count(here, stream, 1) for _ in range(50)))
    assert await here.state(TALLY, stream) == Tally(51, 51)
    assert not refused


async def test_tasks_that_need_the_same_streams_in_another_order_do_not_block_each_other(
    here: Repository,
) -> None:
    one, other = uuid4(), uuid4()
    await count(here, one, 0)
    await count(here, other, 0)

    async def both(first: UUID, second: UUID) -> None:
        async def decision(unit: UnitOfWork) -> None:
            for stream in (first, second):
                await unit.load(TALLY, stream)
                unit.emit(stream, [Counted(1)])

        await decide(here, decision)

    turns = [both(one, other) if n % 2 else both(other, one) for n in range(30)]
    await asyncio.wait_for(asyncio.gather(*turns), 30)
    assert (await _total(here, one), await _total(here, other)) == (30, 30)


async def test_two_processes_on_the_same_aggregates_lose_no_event(
    here: Repository, database: str
) -> None:
    streams, times = [uuid4(), uuid4()], 40
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=contend, args=(database, streams, times)) for _ in range(2)]
    for process in processes:
        process.start()
    await asyncio.gather(*(asyncio.to_thread(process.join, 60) for process in processes))
    assert [process.exitcode for process in processes] == [0, 0]
    for stream in streams:
        assert await here.state(TALLY, stream) == Tally(2 * times, 2 * times)


async def test_a_caller_that_keeps_losing_gets_the_conflict(
    here: Repository, there: Repository
) -> None:
    stream = uuid4()

    async def always_late(unit: UnitOfWork) -> None:
        await unit.load(TALLY, stream)
        await count(there, stream, 1)
        unit.emit(stream, [Counted(100)])

    await count(here, stream, 1)
    with pytest.raises(VersionConflict):
        await decide(here, always_late)


async def test_a_request_that_another_process_carried_out_is_answered_as_done(
    here: Repository, there: Repository
) -> None:
    once, stream = IdempotencyKey(uuid4()), uuid4()
    await count(here, stream, 50)
    await decide(there, lambda unit: _spend(unit, stream, 40), once=once, refusal=TooMuch)
    with pytest.raises(AlreadyDone):
        await decide(here, lambda unit: _spend(unit, stream, 40), once=once, refusal=TooMuch)
    assert await _total(here, stream) == 10


# -- snapshots -------------------------------------------------------------------------------------

SNAPPED = Aggregate("test", Tally, evolve, snapshot_every=10)


@pytest.fixture
async def long_stream(postgres_log: PostgresLog) -> tuple[PostgresLog, UUID]:
    """A stream of 25 events with a snapshot taken in between."""
    repository, stream = Repository(postgres_log, Snapshots(postgres_log.pool)), uuid4()

    async def decision(unit: UnitOfWork) -> None:
        await unit.load(SNAPPED, stream)
        unit.emit(stream, [Counted(1)])

    await postgres_log.append([StreamAppend(stream, 0, [Counted(1)])])
    for _ in range(24):
        await decide(repository, decision)
    await asyncio.gather(*repository._background)
    return postgres_log, stream


async def _load(
    log: PostgresLog, aggregate: Aggregate[Tally], stream: UUID
) -> tuple[Tally | None, list[int]]:
    """Load as a newly started process: the state, and the versions from which it read."""
    reads = Reads(log)
    state = await Repository(reads, Snapshots(log.pool)).state(aggregate, stream)  # type: ignore[arg-type]
    return state, reads.after


async def test_loading_from_a_snapshot_is_loading_the_whole_stream(
    long_stream: tuple[PostgresLog, UUID],
) -> None:
    log, stream = long_stream
    assert await _load(log, SNAPPED, stream) == (Tally(25, 25), [20])
    assert await _load(log, TALLY, stream) == (Tally(25, 25), [0])


async def test_a_snapshot_of_another_schema_is_not_read(
    long_stream: tuple[PostgresLog, UUID],
) -> None:
    log, stream = long_stream
    changed = Aggregate("test", Tally, evolve, snapshot_every=10, schema=2)
    assert await _load(log, changed, stream) == (Tally(25, 25), [0])


async def test_a_snapshot_that_no_longer_fits_is_not_read(
    long_stream: tuple[PostgresLog, UUID], database: str
) -> None:
    log, stream = long_stream
    admin(database, 'UPDATE log.snapshots SET state = \'{"total": "many"}\'')
    assert await _load(log, SNAPPED, stream) == (Tally(25, 25), [0])


async def test_an_earlier_snapshot_does_not_replace_a_later_one(
    long_stream: tuple[PostgresLog, UUID],
) -> None:
    log, stream = long_stream
    snapshots = Snapshots(log.pool)
    await snapshots.save(stream, "test.1", Tally(10, 10), 10)
    assert await snapshots.load(stream, "test.1", Tally) == (
        Tally(20, 20),
        20,
        len(b'{"total":20,"steps":20}'),
    )
    await snapshots.save(stream, "test.2", Tally(10, 10), 10)
    assert await snapshots.load(stream, "test.1", Tally) is None, "a new schema clears out the old"


async def test_a_snapshot_that_cannot_be_kept_is_a_shortcut_less(
    postgres_log: PostgresLog, database: str
) -> None:
    admin(database, "REVOKE INSERT ON log.snapshots FROM ludoteca_app")
    repository, stream = Repository(postgres_log, Snapshots(postgres_log.pool)), uuid4()

    async def decision(unit: UnitOfWork) -> None:
        unit.create(SNAPPED, stream, [Counted(1)] * 10)

    await decide(repository, decision)
    await asyncio.gather(*repository._background)
    admin(database, "GRANT INSERT ON log.snapshots TO ludoteca_app")
    assert await _load(postgres_log, SNAPPED, stream) == (Tally(10, 10), [0])


# -- streams presumed new --------------------------------------------------------------------------


async def test_a_stream_presumed_new_is_not_read(postgres_log: PostgresLog) -> None:
    reads, stream = Reads(postgres_log), uuid4()

    async def decision(unit: UnitOfWork) -> Tally | None:
        state = await unit.load(TALLY, stream, likely_new=True)
        unit.emit(stream, [Counted(1)])
        return state

    assert (await decide(Repository(reads), decision))[0] is None  # type: ignore[arg-type]
    assert reads.after == []


@pytest.mark.parametrize("outcome", ["an append", "a result", "a refusal"])
async def test_a_stream_wrongly_presumed_new_is_read_before_anybody_sees_the_decision(
    here: Repository, there: Repository, outcome: str
) -> None:
    stream, elsewhere = uuid4(), uuid4()
    await count(there, stream, 5)

    async def decision(unit: UnitOfWork) -> int:
        state = await unit.load(TALLY, stream, likely_new=True)
        total = 0 if state is None else state.total
        if outcome == "an append":
            unit.create(TALLY, elsewhere, [Counted(total)])
        elif outcome == "a refusal" and not total:
            raise TooMuch
        return total

    assert (await decide(here, decision))[0] == 5
    if outcome == "an append":
        assert await _total(here, elsewhere) == 5


async def test_a_known_stream_is_not_presumed_new(here: Repository) -> None:
    stream = uuid4()
    await count(here, stream, 5)

    async def decision(unit: UnitOfWork) -> Tally | None:
        return await unit.load(TALLY, stream, likely_new=True)

    assert (await decide(here, decision))[0] == Tally(5, 1)
