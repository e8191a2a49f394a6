"""PostgreSQL's disk is full to the last page: nothing is lost, no event is blamed, and everything
continues once there is room."""

import asyncio
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import uvloop

from adapters.postgres.programs import EmbeddedPostgresError
from domain.errors import Refused
from eventstore.chain import ChainVerifier, Fault
from eventstore.consumers.reactor_runner import ReactorRunner
from eventstore.log import AlreadyDone, LogUnavailable, Recorded, StreamAppend
from eventstore.postgres_log import PostgresLog
from projections.engine.runner import Runner
from tests.support.events.tallies import CODEC, Counted, Ignored, Labelled, tallies
from tests.support.processes.instance import Instance, Person, eventually, running
from tests.support.servers.own_postgres import OwnPostgres

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")

FULL_SECONDS = 2.0
"""How long the disk stays full after the first refused append: preallocated space takes some
appends."""

GOES_ON_SECONDS = 60.0
"""After there is room again; a server that has ended recovers within that time, too."""


@pytest.fixture
def server() -> Iterator[OwnPostgres]:
    with OwnPostgres(disk_mb=320, min_wal_size="32MB") as made:
        yield made


class Answering:
    """A reactor that appends for each event."""

    name = "answering"
    reactions = (Counted,)
    starts_from: Literal["beginning", "now"] = "beginning"

    def __init__(self, log: PostgresLog) -> None:
        self._log = log

    async def react(self, recorded: Recorded) -> None:
        await self._log.append([StreamAppend(uuid4(), 0, [Ignored()])])


class Appender:
    """Appends events of 100 kB, which cannot be compressed, to new streams; records the outcome of
    each."""

    def __init__(self, log: PostgresLog) -> None:
        self._log = log
        self.acknowledged: dict[UUID, int] = {}
        self.refused: set[UUID] = set()

    async def append(self) -> bool:
        stream = uuid4()
        try:
            async with asyncio.timeout(25):
                events = [Counted(by=1), Labelled(label=secrets.token_hex(50_000))]
                done = await self._log.append([StreamAppend(stream, 0, events)])
        except LogUnavailable:
            self.refused.add(stream)
            return False
        self.acknowledged[stream] = done.position
        return True


@pytest.mark.parametrize("what", ["tables", "write-ahead log"])
def test_after_a_full_disk_all_go_on_nothing_is_lost_and_nobody_is_blamed(
    server: OwnPostgres, what: str
) -> None:
    begun, full, refused, over = (threading.Event() for _ in range(4))
    # this thread is the supervisor's: only it may start the server
    with ThreadPoolExecutor(1) as threads:
        scenario = threads.submit(
            uvloop.run, _appends_meanwhile(server, begun, full, refused, over)
        )
        try:
            assert begun.wait(60) or scenario.result(0)
            with server.full():
                full.set()
                if what == "write-ahead log":
                    _use_up_the_write_ahead_log(server)
                _supervise(server, refused, 60)
                _supervise(server, over, FULL_SECONDS)
        finally:
            over.set()
        while not wait([scenario], 0.1).done:
            server.revive()
        scenario.result()


def _use_up_the_write_ahead_log(server: OwnPostgres) -> None:
    """Make the server need another segment than those it has: it ends in a panic."""
    for _ in range(20):
        try:
            server.run("SELECT pg_logical_emit_message(true, 'full', 'disk')")
            server.run("SELECT pg_switch_wal()")
        except psycopg.OperationalError:
            return
    raise AssertionError("there is room for the write-ahead log")


def _supervise(server: OwnPostgres, until: threading.Event, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until.wait(0.1):
        server.revive()


async def _appends_meanwhile(
    server: OwnPostgres,
    begun: threading.Event,
    full: threading.Event,
    refused: threading.Event,
    over: threading.Event,
) -> None:
    async with PostgresLog.open(server.url, CODEC, pool_size=3) as log:
        runner = ReactorRunner(server.url, log, [Answering(log)], outcomes=(Refused, AlreadyDone))
        reacting = asyncio.create_task(runner.run())
        projecting = Runner(server.url, CODEC, [tallies()])
        thread = threading.Thread(target=projecting.run)
        thread.start()
        try:
            appender = Appender(log)
            while len(appender.acknowledged) < 10:  # at first all processes of a busy machine start
                await appender.append()
            begun.set()
            # Nothing meanwhile: the disk would be full of events, and stay so.
            await asyncio.to_thread(full.wait, 60)
            while not over.is_set():
                if not all(await asyncio.gather(*(appender.append() for _ in range(8)))):
                    refused.set()
                # A fast log leaves no moment to fill the disk in: events would, and stay.
                await asyncio.sleep(0.1)
            assert refused.is_set(), "the disk was not full"
            async with asyncio.timeout(GOES_ON_SECONDS):
                while not await appender.append():
                    pass
            await asyncio.to_thread(eventually, lambda: _caught_up(server), bool, GOES_ON_SECONDS)
            assert server.run("SELECT feed, error FROM consumers.quarantine") == []
            await _has_what_was_acknowledged(server, log, appender)
        finally:
            reacting.cancel()
            projecting.stop()
            await asyncio.to_thread(thread.join, 20)
            await asyncio.gather(reacting, return_exceptions=True)


def _caught_up(server: OwnPostgres) -> bool:
    try:
        ((behind, followed),) = server.run(
            "SELECT count(*) FILTER (WHERE position < (SELECT max(position) FROM log.events)),"
            " count(*) FROM consumers.checkpoints"
        )
    except psycopg.OperationalError:
        return False
    return bool(followed == 2 and behind == 0)


async def _has_what_was_acknowledged(
    server: OwnPostgres, log: PostgresLog, appender: Appender
) -> None:
    events = server.run("SELECT stream_id, position, name FROM log.events ORDER BY position")
    assert [position for _, position, _ in events] == list(range(1, len(events) + 1))
    counted = {stream for stream, _, name in events if name == Counted.NAME}
    assert {
        stream: position for stream, position, name in events if name == Labelled.NAME
    }.items() >= (appender.acknowledged.items())
    # a refusal may come too late, like after a crash
    assert counted <= appender.acknowledged.keys() | appender.refused
    assert sum(name == Ignored.NAME for *_, name in events) >= len(counted)
    assert {stream for (stream,) in server.run("SELECT tally_id FROM read.tallies_1")} == counted
    steps = [step async for step in log.verify(ChainVerifier(), upto=len(events), page=500)]
    assert steps
    assert not [step for step in steps if isinstance(step, Fault)]


async def test_while_the_tables_disk_is_full_a_writers_proof_fails_then_succeeds_by_itself() -> (
    None
):
    with OwnPostgres() as server, _events_on_a_disk_of_their_own(server, 4) as disk:
        async with PostgresLog.open(server.url, CODEC, pool_size=1, watched=True) as log:
            appender = Appender(log)
            while await appender.append():
                pass
            for another in (False, True) * 3:
                with pytest.raises(psycopg.errors.DiskFull):
                    await log.prove_writer(another=another)
            remount = ["mount", "-o", "remount,size=64m", str(disk)]
            await asyncio.to_thread(lambda: subprocess.run(remount, check=True))
            await log.prove_writer()
            assert await appender.append()
            events = server.run("SELECT name FROM log.events ORDER BY position")
            assert [name for (name,) in events] == [Counted.NAME, Labelled.NAME] * len(
                appender.acknowledged
            )


@contextmanager
def _events_on_a_disk_of_their_own(server: OwnPostgres, size_mb: int) -> Iterator[Path]:
    disk = server.home / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", disk], check=True)
    try:
        shutil.chown(disk, (server.home / "postgres").stat().st_uid)
        server.run(f"CREATE TABLESPACE small LOCATION '{disk}'")
        server.run("ALTER TABLE log.events SET TABLESPACE small")
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_server_is_started_again_as_soon_as_there_is_room(server: OwnPostgres) -> None:
    server.run("CREATE TABLE t AS SELECT 1 AS n")
    with server.full():
        _use_up_the_write_ahead_log(server)
        server.kill()
        server.shut_down()  # its owner is gone, too
        for note in ("postgres.lock", "logs/postgres.log"):
            (server.home / note).unlink()
        eventually(lambda: shutil.disk_usage(server.home).free == 0)
        for _ in range(5):
            with pytest.raises(EmbeddedPostgresError):
                server.start()
    server.start()
    assert server.run("SELECT n FROM t") == [(1,)]


@pytest.mark.soak
@pytest.mark.parametrize("what", ["tables", "write-ahead log"])
def test_a_shop_outlives_it(server: OwnPostgres, tmp_path: Path, what: str) -> None:
    with running(tmp_path, server.url, {}) as shop:
        game, buyer = shop.game(), shop.register()
        first = buyer.buy(game).json()["order_id"]
        eventually(lambda: buyer.order(first).get("status") == "COMPLETED")
        buyers = [shop.register() for _ in range(40)]
        orders: dict[str, Person] = {}
        writes: list[httpx.Response] = []
        reads: list[httpx.Response] = []

        def use() -> None:
            for path in (
                "/api/v1/games",
                f"/api/v1/games/{game}",
                f"/api/v1/orders/{first}",
                "/api/v1/library",
            ):
                reads.append(buyer.http.get(path))
            writes.append(_large(shop))
            if buyers:
                writes.append(answer := buyers[-1].buy(game))
                if answer.status_code == 201:
                    orders[answer.json()["order_id"]] = buyers.pop()

        with server.full():
            if what == "write-ahead log":
                _use_up_the_write_ahead_log(server)
            end = time.monotonic() + 120
            while sum(answer.status_code == 503 for answer in writes) < 8:
                assert time.monotonic() < end, [answer.status_code for answer in writes]
                server.revive()
                use()
        was_free_at = time.monotonic()
        while writes[-1].status_code != 201 or reads[-1].status_code != 200:
            assert time.monotonic() < was_free_at + GOES_ON_SECONDS, (
                writes[-1].text,
                reads[-1].text,
            )
            server.revive()
            use()
        assert {answer.status_code for answer in writes} == {201, 503}, [
            answer.text for answer in writes
        ]
        assert {answer.status_code for answer in reads} <= {200, 503}, [
            answer.text for answer in reads
        ]
        for answer in (*writes, *reads):
            if answer.status_code == 503:
                assert answer.json()["code"]
                assert answer.headers["retry-after"]
        assert orders
        for order, person in orders.items():
            eventually(partial(person.completed, order))
            eventually(lambda person=person: person.titles() == ["Celeste"])  # type: ignore[misc]
        assert server.run("SELECT feed, error FROM consumers.quarantine") == []
        assert {kind: process.poll() for kind, process in shop.running.items()} == dict.fromkeys(
            shop.running
        )


def _large(shop: Instance) -> httpx.Response:
    """A new game with a long description, which cannot be compressed."""
    prices = [{"region": "*", "amount_cents": 1999, "currency": "USD"}]
    game = {
        "sku": uuid4().hex,
        "title": "Celeste",
        "description": secrets.token_hex(4_900),
        "prices": prices,
    }
    return shop.admin().post("/api/v1/games", json=game)
