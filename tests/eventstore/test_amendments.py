"""What was declared about an event is how everybody reads it, in every process."""

import json
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from domain.amendments import AmendmentDeclared, Reading
from eventstore import amendments
from eventstore.aggregate import Aggregate
from eventstore.amendments import NONE
from eventstore.codec import Codec
from eventstore.decide import decide
from eventstore.decoding import SKIPPED
from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from eventstore.snapshots import Snapshots
from eventstore.unit_of_work import UnitOfWork
from tests.support.events.notes import Counted, Noted, Tally, evolve

CODEC = Codec({cls.NAME: cls for cls in (Noted, Counted, AmendmentDeclared)})
TALLY = Aggregate("test", Tally, evolve)
LONG_TALLY = Aggregate("test", Tally, evolve, snapshot_every=2)


@pytest.fixture(autouse=True)
def _looking_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amendments, "LOOK_SECONDS", 0.0)


@pytest.fixture
async def here(database: str) -> AsyncIterator[PostgresLog]:
    async with PostgresLog.open(database, CODEC, pool_size=2) as log:
        yield log


@pytest.fixture
async def there(database: str) -> AsyncIterator[PostgresLog]:
    """The same log, as another process sees it."""
    async with PostgresLog.open(database, CODEC, pool_size=2) as log:
        yield log


async def _declare(
    log: PostgresLog, position: int, reading: Reading, payload: dict[str, int] | None = None
) -> int:
    ((env, _),) = await log.read_raw(position - 1, upto=position)
    text = None if payload is None else json.dumps(payload)
    declared = AmendmentDeclared(
        position, env.event_id, env.stream_id, env.name, reading, "why", text
    )
    (version,) = await log.versions([amendments.STREAM])
    landed = await log.append([StreamAppend(amendments.STREAM, version, [declared])])
    return landed.position


async def _counted(log: PostgresLog, *numbers: int) -> UUID:
    stream = uuid4()
    await log.append([StreamAppend(stream, 0, [Counted(number) for number in numbers])])
    return stream


async def _total(repository: Repository, stream: UUID, kind: Aggregate[Tally] = TALLY) -> int:
    state = await repository.state(kind, stream)
    assert state is not None
    return state.total


async def test_a_state_that_another_process_has_cached_is_dropped(
    here: PostgresLog, there: PostgresLog
) -> None:
    stream = await _counted(here, 1, 2, 4)
    repository = Repository(there)
    assert await _total(repository, stream) == 7
    await _declare(here, 2, "amend", {"by": 100})
    assert await _total(repository, stream) == 105
    await _declare(here, 2, "skip")
    version, state, _ = await repository.load(TALLY, stream)
    assert (version, state) == (3, Tally(5, 2))
    await _declare(here, 2, "as_recorded")
    assert await _total(repository, stream) == 7


async def test_a_snapshot_of_another_reading_is_not_used(
    here: PostgresLog, there: PostgresLog
) -> None:
    stream = await _counted(here, 1, 2, 4)
    snapshots = Snapshots(here.pool)
    await snapshots.save(stream, "test.1", Tally(7, 3), 3)
    assert await _total(Repository(here, snapshots), stream, LONG_TALLY) == 7
    await _declare(here, 2, "skip")
    await snapshots.save(stream, "test.1", Tally(7, 3), 3)  # by a process that has not looked
    assert await _total(Repository(there, snapshots), stream, LONG_TALLY) == 5


async def test_decisions_go_on_at_the_version_that_a_skipped_event_counts(
    here: PostgresLog,
) -> None:
    stream = await _counted(here, 1)
    broken = Counted("many")  # type: ignore[arg-type]
    await here.append([StreamAppend(stream, 1, [broken])])
    repository = Repository(here)

    async def add(unit: UnitOfWork) -> int:
        state = await unit.get(TALLY, stream)
        unit.emit(stream, [Counted(10)])
        return state.total

    with pytest.raises(Exception, match="Expected `int`"):
        await decide(repository, add)
    await _declare(here, 2, "skip")
    total, appended = await decide(repository, add)
    assert (total, appended is not None, await here.versions([stream])) == (1, True, [3])
    assert [total async for total in _totals(repository, stream, 3)] == [11, 11, 11]


async def _totals(repository: Repository, stream: UUID, times: int) -> AsyncIterator[int]:
    for _ in range(times):
        yield await _total(repository, stream)


async def test_a_past_moment_is_read_by_what_was_declared_then(here: PostgresLog) -> None:
    stream = await _counted(here, 1, 2)
    first = await _declare(here, 2, "amend", {"by": 5})
    second = await _declare(here, 2, "skip")

    async def read(position: int) -> list[object]:
        past = await here.as_of(position)
        return [recorded.event for recorded in await past.read_stream(stream, upto=position)]

    assert await read(first - 1) == [Counted(1), Counted(2)]
    assert await read(first) == await read(second - 1) == [Counted(1), Counted(5)]
    assert await read(second) == [Counted(1), SKIPPED]
    assert [each.event for each in await here.read_stream(stream)] == [Counted(1), SKIPPED]


async def test_a_declaration_that_cannot_be_read_is_left_out(here: PostgresLog) -> None:
    stream = await _counted(here, 1, 2)
    forged = AmendmentDeclared(2, uuid4(), "no id", "x", "skip", "")  # type: ignore[arg-type]
    await here.append([StreamAppend(amendments.STREAM, 0, [forged])])
    assert await _total(Repository(here), stream) == 3
    await _declare(here, 1, "skip")
    assert await _total(Repository(here), stream) == 2


async def test_what_was_declared_is_forgotten_when_the_log_goes_back(here: PostgresLog) -> None:
    await _counted(here, 1)
    await _declare(here, 1, "skip")
    assert await here.amendments.current()
    for forget in here.history._forget:
        forget()
    assert here.amendments.now is NONE
    assert (await here.amendments.current()).payloads == {1: None}
