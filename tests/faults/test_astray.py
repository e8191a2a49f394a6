"""The log goes back without its consumers, as when its schema alone is restored: none of them
continues silently."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal
from uuid import uuid4

import psycopg
import pytest

from domain.errors import Refused
from eventstore.consumers import checkpoints, histories, quarantine
from eventstore.consumers.reactor_runner import ReactorRunner
from eventstore.log import AlreadyDone, Recorded, StreamAppend
from eventstore.postgres_log import PostgresLog
from projections.engine import rebuild
from queries.operations.control import Operations
from tests.support.databases.log_dump import LogDump
from tests.support.events.tallies import CODEC, Counted, tallies, uses
from tests.support.shops.engine import Desk
from tests.support.shops.gateway import open_shop
from tests.support.shops.small_gateway import client_of


class Noting:
    """Records the positions that it reacts to."""

    name = "noting"
    reactions = (Counted,)
    starts_from: Literal["beginning", "now"] = "beginning"

    def __init__(self) -> None:
        self.seen: list[int] = []

    async def react(self, recorded: Recorded) -> None:
        self.seen.append(recorded.env.position)


@asynccontextmanager
async def reacting(desk: Desk, reactor: Noting) -> AsyncIterator[None]:
    runner = ReactorRunner(desk.database, desk.log, [reactor], outcomes=(Refused, AlreadyDone))
    task = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def desk(database: str) -> AsyncIterator[Desk]:
    async with PostgresLog.open(database, CODEC, pool_size=3) as log:
        yield Desk(database, log)


async def append(log: PostgresLog, count: int) -> None:
    for _ in range(count):
        await log.append([StreamAppend(uuid4(), 0, [Counted(by=1)])])


async def at_head(desk: Desk, subscription: str) -> None:
    await desk.caught_up(subscription)


def row(conn: psycopg.Connection, subscription: str) -> checkpoints.Subscription:
    found = checkpoints.subscription(conn, subscription)
    assert found is not None
    return found


async def test_a_reactor_whose_log_went_back_stands_still_and_is_shown_and_goes_on_from_its_trail(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    noting, dump = Noting(), LogDump(desk.database)
    async with reacting(desk, noting):
        await append(desk.log, 10)
        await at_head(desk, "noting.1")
        await desk.until(lambda conn: conn.execute("SELECT 1 FROM consumers.trail").fetchone())
    (trace,) = desk.execute("SELECT position FROM consumers.trail")
    dump.keep()
    async with reacting(desk, noting):
        await append(desk.log, 20)
        await at_head(desk, "noting.1")
    dump.put_back()
    async with PostgresLog.open(desk.database, CODEC) as log:
        await append(log, 30)  # further than before: the position alone would not show it
        later, fresh = Noting(), Desk(desk.database, log)
        async with reacting(fresh, later):
            operations = Operations(log.pool)
            await desk.until(lambda conn: row(conn, "noting.1").astray)
            assert await operations.astray() == ["noting"]
            (state,) = await operations.subscriptions()
            assert (state.astray, state.lag) == (True, 40)
            await desk.until(lambda _conn: "ludoteca projections recover noting" in caplog.text)
            assert later.seen == []
            with desk.connect() as conn:
                back = histories.last_common(conn, "noting.1")
                assert back == trace[0] <= 10
                histories.rewind(conn, "noting.1", back)
            await at_head(desk, "noting.1")
        assert later.seen == list(range(back + 1, 41)), "none of the new events is missed"
        assert await operations.astray() == []


async def test_without_a_trail_nobody_guesses_where_a_reactor_was(desk: Desk) -> None:
    noting, dump = Noting(), LogDump(desk.database)
    dump.keep()
    async with reacting(desk, noting):
        await append(desk.log, 3)
        await at_head(desk, "noting.1")
    dump.put_back()
    desk.execute("DELETE FROM consumers.trail")
    with desk.connect() as conn, pytest.raises(histories.NoTrail):
        histories.last_common(conn, "noting.1")


async def test_a_read_model_whose_log_went_back_is_folded_anew(desk: Desk) -> None:
    model, dump = tallies(), LogDump(desk.database)
    with desk.running(model):
        await append(desk.log, 5)
        await at_head(desk, "tallies.1")
        dump.keep()
        await append(desk.log, 5)
        await at_head(desk, "tallies.1")
    dump.put_back()
    async with PostgresLog.open(desk.database, CODEC) as log:
        await append(log, 2)
    with desk.running(model):
        await desk.until(
            lambda conn: (one := row(conn, "tallies.1")).position == 7 and not one.astray
        )
        with desk.connect() as conn:
            storage = row(conn, "tallies.1").storage
        assert len(desk.rows(model, storage)) == 7
        assert desk.verify(model).difference.equal


async def test_what_is_to_be_retried_keeps_no_read_model_from_being_folded_anew(desk: Desk) -> None:
    model, dump = tallies(), LogDump(desk.database)
    with desk.running(model):
        await append(desk.log, 5)
        await at_head(desk, "tallies.1")
        dump.keep()
        await append(desk.log, 5)
        await at_head(desk, "tallies.1")
    dump.put_back()
    desk.execute(
        "INSERT INTO consumers.quarantine (feed, stream_id, position, name, error, retry)"
        " VALUES ('tallies.1', gen_random_uuid(), 9, 'test.counted.v1', 'it was lost since', true)"
    )
    with desk.running(model):
        await desk.until(
            lambda conn: (one := row(conn, "tallies.1")).position == 5 and not one.astray
        )
        await desk.until(lambda conn: not quarantine.held(conn))


async def test_somebody_who_reads_the_old_rows_holds_nobody_up(desk: Desk) -> None:
    """Like pg_dump, or a long query."""
    model, other, dump = tallies(), uses(), LogDump(desk.database)
    with desk.running(model, other):
        await append(desk.log, 5)
        await desk.caught_up("tallies.1", "uses.1")
        with desk.connect() as conn:
            rebuild.rebuild(conn, CODEC, model, lambda _done, _all: None)
        dump.keep()
        await append(desk.log, 5)
        await desk.caught_up("tallies.1", "tallies.1.r1", "uses.1")
    dump.put_back()
    with desk.connect() as reader, reader.transaction():
        reader.execute("SELECT FROM read.tallies_1, read.tallies_1_r1")
        with desk.running(model, other):
            await desk.until(
                lambda conn: all(
                    (one := row(conn, name)).position == 5
                    and not one.astray
                    and one.ready_at is None
                    for name in ("tallies.1", "tallies.1.r1", "uses.1")
                )
            )
        left = {each.storage for each in desk.subscriptions().values() if each.building}
        assert left == {"tallies_1", "tallies_1_r1"}
    assert len({each.storage for each in desk.subscriptions().values()}) == 5
    with desk.running(model, other), desk.connect() as conn:
        assert desk.verify(model).difference.equal
        rebuild.rebuild(conn, CODEC, model, lambda _done, _all: None)
        assert not left & {each.storage for each in desk.subscriptions().values()}
        assert desk.verify(model).difference.equal


async def test_a_runner_notices_that_the_log_was_replaced_under_its_connection(desk: Desk) -> None:
    model, dump = tallies(), LogDump(desk.database)
    with desk.running(model):
        dump.keep()
        await append(desk.log, 5)
        await at_head(desk, "tallies.1")
        dump.put_back()
        async with PostgresLog.open(desk.database, CODEC) as log:
            await append(log, 2)
        await desk.until(
            lambda conn: (one := row(conn, "tallies.1")).position == 2 and not one.astray
        )
    assert desk.verify(model).difference.equal


async def test_a_checkpoint_is_not_moved_beyond_the_log_nor_from_another_history(
    desk: Desk,
) -> None:
    await append(desk.log, 3)
    with desk.connect() as conn:
        name = checkpoints.register(conn, "probe", 1, "")
        checkpoints.move(conn, [(name, 0, 3)])
        with pytest.raises(checkpoints.CheckpointMoved):
            checkpoints.move(conn, [(name, 3, 4)])
        desk.execute("UPDATE consumers.checkpoints SET event_id = gen_random_uuid()")
        with pytest.raises(checkpoints.CheckpointMoved):
            checkpoints.move(conn, [(name, 3, 2)])


async def test_an_epoch_begins_when_consumers_tell_of_another_history(desk: Desk) -> None:
    """No running process remembers it: all were stopped while the log was restored."""
    noting, dump = Noting(), LogDump(desk.database)
    dump.keep()
    async with reacting(desk, noting):
        await append(desk.log, 3)
        await at_head(desk, "noting.1")
    dump.put_back()
    async with (
        PostgresLog.open(desk.database, CODEC) as log,
        reacting(Desk(desk.database, log), Noting()),
    ):
        await desk.until(
            lambda conn: conn.execute("SELECT 1 FROM log.epochs WHERE number = 2").fetchone()
        )


async def test_readiness_lists_and_metrics_name_who_is_astray_and_one_command_mends_it(
    database: str, tmp_path: Path
) -> None:
    async with open_shop(database, tmp_path) as shop:
        ann = await shop.register()
        async with asyncio.timeout(30):
            await shop.services.reads.waiter.wait(["settlement"], await shop.core.log.head(), 20)
        with psycopg.connect(database, autocommit=True) as conn:
            conn.execute(
                "UPDATE consumers.checkpoints SET event_id = gen_random_uuid() WHERE feed ="
                " 'settlement.1'"
            )
        client = client_of(shop.app)
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (503, "down")
        assert answer.json()["dependencies"]["consumer settlement"] == {"status": "down"}
        assert (
            'ludoteca_projection_astray{projection="settlement.1"} 1.0'
            in (await client.get("/metrics")).text
        )
        environment = {
            **os.environ,
            "LUDOTECA_HOME": str(tmp_path),
            "LUDOTECA_DATABASE_URL": database,
        }

        async def ludoteca(*arguments: str) -> str:
            command = [sys.executable, "-m", "runtime.cli", "projections", *arguments]
            done = await asyncio.to_thread(
                subprocess.run,
                command,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        listed = {each["projection"]: each for each in json.loads(await ludoteca("list", "--json"))}
        assert (listed["settlement"]["state"], listed["settlement"]["astray"]) == ("astray", True)
        assert "settlement goes on behind position" in await ludoteca(
            "recover", "settlement", "--from", "0"
        )
        async with asyncio.timeout(60):
            while (await client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110 another task's work
                await asyncio.sleep(0.05)
        assert (await ann.get(f"/api/v1/users/{ann.id}")).status_code == 200
