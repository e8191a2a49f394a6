"""A read model with a new version, or with lost rows, is not read before it has caught up."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from eventstore.consumers import checkpoints
from eventstore.log import StreamAppend
from projections.engine import rebuild
from projections.engine.runner import Registered, Runner
from projections.engine.tables import PostgresTable
from queries.engine.positions import SOON_POSITIONS, CatchingUp, Progress, Readable, ReadModelBehind
from queries.engine.read_models import ReadModels
from queries.operations.control import Operations
from runtime.release import preparing
from runtime.release.migrate import migrate
from tests.support.events.tallies import CODEC, Counted, Tallies, Tally, tallies
from tests.support.shops.engine import Desk, has_table


class Newer(Tallies):
    version = 2


class Mended(Newer):
    """Its rows have the same shape as those of version 1."""

    earlier = frozenset({1})


def _newer(kind: type[Tallies] = Newer) -> Registered:
    return Registered(kind(), PostgresTable(Tally))


class Gate(PostgresTable[Any]):
    """A table that writes nothing while it is shut."""

    shut = True

    def write(self, conn: psycopg.Connection, storage: str, puts: Any, deletes: Any) -> None:
        if self.shut:
            raise ConnectionError("shut")
        super().write(conn, storage, puts, deletes)


def _reads(desk: Desk, version: int = 2, *earlier: int) -> ReadModels:
    return ReadModels(desk.log.pool, {"tallies": Readable(version, earlier)})


async def _total(reads: ReadModels, stream: UUID) -> int | None:
    answer = await reads.first(Tally, "SELECT * FROM @tallies WHERE tally_id = %(id)s", id=stream)
    return answer.value.total if answer.value else None


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries do not wait for a read model that catches up."""
    monkeypatch.setattr("queries.engine.read_models.SOON_POSITIONS", -1)


@pytest.mark.usefixtures("at_once")
async def test_a_new_version_is_read_once_it_has_caught_up_and_not_before(desk: Desk) -> None:
    stream, gate = uuid4(), Gate(Tally)
    with desk.running(tallies()):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")
    reads = _reads(desk)
    with desk.running(Registered(Newer(), gate)):
        await desk.until(lambda conn: checkpoints.subscription(conn, "tallies.2"))
        with pytest.raises(CatchingUp):
            await _total(reads, stream)
        assert await reads.catching_up() == {"tallies": Progress(0, 1)}
        await desk.append(stream, Counted(2))  # events that come meanwhile must not be missed
        assert await reads.catching_up() == {"tallies": Progress(0, 2)}
        with desk.connect() as conn, pytest.raises(rebuild.CatchingUp):
            rebuild.live(conn, _newer())
        gate.shut = False
        await desk.caught_up("tallies.2")
        assert await _total(reads, stream) == 3
        assert await reads.catching_up() == {}
    assert await _total(_reads(desk, 1), stream) == 1, "the older release reads its own"


async def test_a_query_waits_for_what_has_caught_up_within_seconds(desk: Desk) -> None:
    stream = uuid4()
    await desk.append(stream, Counted(1))
    asking = asyncio.create_task(_total(_reads(desk, 1), stream))
    with desk.running(tallies()):
        assert await asking == 1
    assert SOON_POSITIONS > 1


async def test_a_read_model_of_an_empty_log_can_be_read_at_once(desk: Desk) -> None:
    with desk.running(tallies()):
        await desk.until(has_table("read.tallies_1"))
        reads = _reads(desk, 1)
        assert await reads.catching_up() == {}
        assert await _total(reads, uuid4()) is None


async def test_nothing_has_to_be_caught_up_where_there_are_no_events(desk: Desk) -> None:
    assert await _reads(desk).catching_up() == {}
    await desk.append(uuid4(), Counted(1))
    assert await _reads(desk).catching_up() == {"tallies": Progress(0, 1)}, "no projector has begun"


# -- the version before ----------------------------------------------------------------------------


async def test_the_version_before_answers_while_it_is_fed_if_queries_can_read_it(
    desk: Desk,
) -> None:
    stream, gate = uuid4(), Gate(Tally)
    with desk.running(tallies()):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")
        with desk.running(Registered(Mended(), gate)):
            reads = _reads(desk, 2, 1)
            await desk.until(lambda conn: checkpoints.subscription(conn, "tallies.2"))
            assert await _total(reads, stream) == 1
            await desk.append(stream, Counted(2))
            await desk.caught_up("tallies.1")
            assert await _total(reads, stream) == 3
            assert await reads.catching_up() == {}
            gate.shut = False
            await desk.caught_up("tallies.2")
            assert (await reads.waiter.active(["tallies"]))["tallies"].name == "tallies.2"
            assert await _total(reads, stream) == 3


@pytest.mark.usefixtures("at_once")
async def test_the_version_before_does_not_answer_once_nobody_feeds_it(desk: Desk) -> None:
    stream = uuid4()
    with desk.running(tallies()):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")
    with desk.running(Registered(Mended(), Gate(Tally))):
        await desk.until(lambda conn: checkpoints.subscription(conn, "tallies.2"))
        assert await _total(_reads(desk, 2, 1), stream) == 1, "it has all that there is"
        await desk.append(uuid4(), Counted(1))
        desk.execute(
            "UPDATE consumers.checkpoints SET updated_at = updated_at - interval '1 minute'"
        )
        with pytest.raises(ReadModelBehind):
            await _total(_reads(desk, 2, 1), stream)


# -- prepared beside the older release -------------------------------------------------------------


async def test_what_was_prepared_is_read_after_the_last_steps_of_the_new_release(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "codec", lambda: CODEC)
    stream, told = uuid4(), []
    with desk.running(tallies()):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")

        def prepare() -> list[preparing.Prepared]:
            return preparing.prepare(
                desk.database, [_newer()], lambda *progress: told.append(progress)
            )

        assert await asyncio.to_thread(prepare) == [preparing.Prepared("tallies", 2, 1, 1)]
        assert told[-1] == (1, 1)
        assert (
            desk.subscriptions()["tallies.2"].position,
            desk.subscriptions()["tallies.2"].active,
        ) == (1, False)
        await desk.append(stream, Counted(2))
        await desk.caught_up("tallies.1")
        assert await _total(_reads(desk, 1), stream) == 3, "the older release goes on"
    with pytest.raises(ReadModelBehind):
        await _reads(desk).waiter.active(["tallies"])
    with desk.running(_newer()):
        assert await _total(_reads(desk), stream) == 3, "nothing of between is missing"
        assert await asyncio.to_thread(prepare) == []


# -- rows that were lost ---------------------------------------------------------------------------


def _drop_table(desk: Desk) -> None:
    desk.execute("DROP TABLE read.tallies_1")


def _drop_schema(desk: Desk) -> None:
    desk.execute("DROP SCHEMA read CASCADE")


def _restore_without_schema(desk: Desk) -> None:
    _drop_schema(desk)
    migrate(desk.database)


def _make_schema_by_hand(desk: Desk) -> None:
    """Create the schema without the rights that the program needs."""
    desk.execute("DROP SCHEMA read CASCADE; CREATE SCHEMA read")


LOSSES = {
    "table": _drop_table,
    "schema": _drop_schema,
    "schema, restored without it": _restore_without_schema,
    "schema, made by hand": _make_schema_by_hand,
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
async def test_a_feed_whose_table_is_lost_begins_anew(
    desk: Desk, lose: Callable[[Desk], None], running: bool
) -> None:
    registered, streams = tallies(), [uuid4() for _ in range(20)]
    with desk.running(registered):
        await desk.log.append([StreamAppend(stream, 0, [Counted(1)]) for stream in streams])
        await desk.caught_up("tallies.1")
        if running:
            lose(desk)
            await desk.until(_is_back)
    if not running:
        lose(desk)
    with desk.running(registered):
        await desk.until(_is_back)
        await desk.caught_up("tallies.1")
    assert len(desk.rows(registered)) == 20
    assert desk.verify(registered).difference.equal


def _is_back(conn: psycopg.Connection) -> bool:
    row = checkpoints.subscription(conn, "tallies.1")
    found = conn.execute(
        "SELECT FROM pg_tables WHERE (schemaname, tablename) = ('read', 'tallies_1')"
    ).fetchone()
    return bool(row and row.active and found is not None)


@pytest.mark.parametrize("lose", [_drop_table, _drop_schema], ids=["table", "schema"])
async def test_a_lost_table_is_reported_even_without_a_projector(
    desk: Desk, lose: Callable[[Desk], None]
) -> None:
    with desk.running(tallies()):
        await desk.append(uuid4(), Counted(1))
        await desk.caught_up("tallies.1")
    reads = _reads(desk, 1)
    assert await reads.catching_up() == {}
    lose(desk)
    assert await reads.catching_up() == {"tallies": Progress(0, 1)}


@pytest.mark.usefixtures("at_once")
async def test_a_lost_table_is_not_read_before_it_is_full_again(desk: Desk) -> None:
    gate, stream = Gate(Tally), uuid4()
    gate.shut = False
    with desk.running(Registered(Tallies(), gate)):
        await desk.append(stream, Counted(1))
        await desk.caught_up("tallies.1")
        reads = _reads(desk, 1)
        assert await _total(reads, stream) == 1
        gate.shut = True
        _drop_table(desk)
        await desk.until(has_table("read.tallies_1"))
        with pytest.raises(ReadModelBehind):
            await _total(reads, stream)
        gate.shut = False
        await desk.until(_is_back)
        assert await _total(reads, stream) == 1


# -- storages that are only kept -------------------------------------------------------------------


async def test_what_no_release_feeds_has_no_lag(desk: Desk) -> None:
    with desk.running(tallies()):
        await desk.append(uuid4(), Counted(1))
        await desk.caught_up("tallies.1")
    with desk.running(_newer()):
        await desk.append(uuid4(), Counted(1))
        await desk.caught_up("tallies.2")
    states = await Operations(desk.log.pool, {"tallies": 2}).subscriptions()
    assert {(s.feed, s.fed, s.lag) for s in states} == {
        ("tallies.1", False, None),
        ("tallies.2", True, 0),
    }


async def test_a_runner_that_does_not_activate_leaves_what_is_lost_unread(desk: Desk) -> None:
    await desk.append(uuid4(), Counted(1))
    runner = Runner(desk.database, CODEC, [tallies()], activate=False)
    task = asyncio.create_task(asyncio.to_thread(runner.run))
    try:
        await desk.caught_up("tallies.1")
    finally:
        runner.stop()
        await task
    assert not desk.subscriptions()["tallies.1"].active
