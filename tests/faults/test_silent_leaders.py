"""Leaders that hang, or whose network falls silent, are replaced; one that wakes up does no
harm."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from aio_pika import connect as connect_rabbitmq

from adapters.relay.rabbitmq import EXCHANGE, RabbitPublisher
from eventstore.consumers import checkpoints
from eventstore.consumers import leadership as lead
from eventstore.consumers.leadership import Challenger, leading
from eventstore.database import connections
from eventstore.database.postgres import connect
from tests.support.processes.program import Process, eventually, started
from tests.support.servers.faulty_proxy import Proxy

REPLACED = 30.0
"""Twenty seconds are promised; the rest is for a busy machine."""

_OF_OURS = """
SELECT DISTINCT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.classid = 4911 AND l.granted AND a.datname = current_database()
AND l.objid = (hashtext(%s)::bigint & 4294967295)::oid"""


def leaders(database: str, name: str) -> set[int]:
    with psycopg.connect(database, autocommit=True) as conn:
        return {pid for pid, _ in conn.execute(_OF_OURS, [name])}


def sessions(database: str) -> int:
    with psycopg.connect(database) as conn:
        row = conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ).fetchone()
    return int(row[0]) if row else 0


def sleeps(database: str) -> bool:
    with psycopg.connect(database) as conn:
        found = conn.execute(
            "SELECT FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(1)'"
        )
        return found.fetchone() is not None


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lead, "SILENT_SECONDS", 1.5)
    monkeypatch.setattr(lead, "RETRY_SECONDS", 0.2)
    monkeypatch.setattr(connections, "SILENCE_SECONDS", 0.5)


def challenge(conn: psycopg.Connection, name: str, seconds: float) -> bool:
    """Whether a challenger becomes the leader within some seconds."""
    challenger, end = Challenger(), time.monotonic() + seconds
    while time.monotonic() < end:
        if checkpoints.try_lead(conn, name):
            return True
        challenger.look(conn, [name])
        time.sleep(0.1)  # as often as leaders and challengers look
    return False


@pytest.mark.usefixtures("quick")
def test_a_silent_leader_is_ended_and_one_that_works_is_not(database: str) -> None:
    with connect(database, "leader") as leader, connect(database, "challenger") as conn:
        assert checkpoints.try_lead(leader, "x.1")
        done = threading.Event()

        def live() -> None:
            while not done.wait(0.3):
                leader.execute("SELECT 1")
            leader.execute("SELECT pg_sleep(3)")  # one long statement counts as work, too

        thread = threading.Thread(target=live)
        thread.start()
        assert not challenge(conn, "x.1", 3)
        done.set()
        assert not challenge(conn, "x.1", 2)
        thread.join()
        assert challenge(conn, "x.1", 5)
        with pytest.raises(psycopg.OperationalError):
            leader.execute("SELECT 1")


@pytest.mark.usefixtures("quick")
def test_a_leader_that_stands_still_in_a_transaction_is_ended_and_a_rebuild_is_not(
    database: str,
) -> None:
    with connect(database, "leader") as leader, connect(database, "rebuild") as other:
        assert checkpoints.try_lead(leader, "x.1")
        assert checkpoints.try_lead(other, "rebuild x")
        leader.execute("BEGIN")
        with connect(database, "challenger") as conn:
            assert challenge(conn, "x.1", 5)
        assert other.execute("SELECT 1").fetchone() == (1,)
        leader.close()


@pytest.mark.usefixtures("quick")
async def test_a_process_that_loses_the_lead_stops(database: str) -> None:
    stopped = asyncio.Event()

    async def act() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async def lead_and_act(proxy: Proxy) -> None:
        async with leading(proxy.url, "x.1"):
            proxy.freeze(only_present=True)
            await act()

    with Proxy(database) as proxy, pytest.raises(ExceptionGroup) as raised:
        await asyncio.wait_for(lead_and_act(proxy), 20)
    assert stopped.is_set()
    assert raised.group_contains(psycopg.OperationalError)


async def test_a_connection_is_not_closed_under_a_thread_that_is_in_a_statement(
    database: str,
) -> None:
    async with leading(database, "x.1") as conn:
        working = asyncio.create_task(asyncio.to_thread(conn.execute, "SELECT pg_sleep(1)"))
        await asyncio.to_thread(eventually, lambda: sleeps(database))
    assert conn.closed
    await working


async def test_an_old_page_is_not_published(rabbitmq_url: str) -> None:
    publisher = RabbitPublisher(rabbitmq_url)
    async with await connect_rabbitmq(rabbitmq_url) as broker:
        channel = await broker.channel()
        await publisher.connect()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(EXCHANGE, "#")
        with pytest.raises(ConnectionError, match="too late"):
            await publisher.publish([("old", b"old", uuid4())], before=time.monotonic() - 1)
        await publisher.publish([("new", b"new", uuid4())], before=time.monotonic() + 5)
        message = await queue.get(timeout=5)
        assert message.body == b"new"
    await publisher.close()


@pytest.fixture
def pair(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Process, Process, str]]:
    """Two processes of a kind, and what one of them leads."""
    kind, name = request.param
    settings = {}
    if name == "relay.1":
        settings["LUDOTECA_RABBITMQ_URL"] = request.getfixturevalue("rabbitmq_url")
    if name == "relay_kafka.1":
        settings["LUDOTECA_KAFKA_URL"] = request.getfixturevalue("kafka_url")
        settings["LUDOTECA_KAFKA_TOPIC"] = request.getfixturevalue("kafka_topic")
    first = Process(kind, tmp_path / "one", database, **settings)
    with started(first):
        eventually(lambda: leaders(database, name))
        before = sessions(database)
        second = Process(kind, tmp_path / "two", database, **settings)
        with started(second):
            eventually(lambda: sessions(database) > before + 1)
            yield first, second, name


@pytest.mark.soak
@pytest.mark.parametrize(
    "pair",
    [
        ("projector", "library.1"),
        ("worker", "deadlines"),
        ("worker", "settlement.1"),
        ("relay", "relay.1"),
        ("relay", "relay_kafka.1"),
    ],
    indirect=True,
    ids=str,
)
def test_a_process_that_is_stopped_or_killed_is_replaced(
    database: str, pair: tuple[Process, Process, str]
) -> None:
    first, second, name = pair
    led = leaders(database, name)
    first.pause()
    start = time.monotonic()
    eventually(lambda: leaders(database, name) - led, patience=REPLACED)
    print(f"{first.kind} {name}: replaced after {time.monotonic() - start:.1f} s")
    led = leaders(database, name)
    print(first.said)
    first.go_on()
    second.kill()
    eventually(lambda: leaders(database, name) - led or first.code is not None, patience=REPLACED)
    assert first.code is None, first.said
