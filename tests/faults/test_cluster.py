"""A cluster of three PostgreSQL servers, which fails over while people buy: nothing that was
acknowledged is lost, nothing happens twice, and every process finds the new primary."""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any, Self
from uuid import uuid4

import httpx
import psycopg
import pytest

from eventstore.consumers.leadership import leading
from eventstore.database.postgres import connect
from eventstore.log import AlreadyDone, IdempotencyKey, LogUnavailable
from eventstore.postgres_log import PostgresLog
from runtime.release.migrate import migrate
from tests.support.events.notes import CODEC, new_stream, texts_of
from tests.support.processes.instance import VISA, Instance, Person, eventually, running
from tests.support.servers.cluster import Cluster, Node

BUYERS, GAMES, PRICE_CENTS = 3, 150, 1999
PAUSE_SECONDS = 0.5
"""Between two purchases of a buyer, so that the games last for a fail-over."""

ROUNDS = int(os.environ.get("LUDOTECA_TEST_FAIL_OVERS", "2"))
"""How often the primary dies, and how often it freezes."""

BACK_SECONDS = 15.0
"""Until queries are answered by a standby (10 are promised), and, once the cluster commits again,
until purchases are taken (5 are promised): the rest is for a busy machine."""

PATIENCE = 60.0

SETTINGS = {
    # Longer than a fail-over takes: no payment may fail here.
    "LUDOTECA_PAYMENT_RETRY_SECONDS": ",".join(["0.2", "0.5", "1", "2", *["4"] * 24]),
}
PASSING = {"ludoteca inquiry"}
"""Sessions that end by themselves."""

_SESSIONS = """
SELECT application_name, count(*) FROM pg_stat_activity
WHERE starts_with(application_name, 'ludoteca') GROUP BY 1"""
_LEADS = """
SELECT count(DISTINCT objid) FROM pg_locks
WHERE locktype = 'advisory' AND classid = 4911 AND granted"""
_POSITIONS = "SELECT count(*), min(position), max(position) FROM log.events"
_GOES_BACK = """
SELECT count(*) FROM log.events e JOIN log.events f ON f.position = e.position + 1
WHERE f.recorded_at < e.recorded_at"""
_STREAMS = """
SELECT stream_id::text, count(*) FROM log.events WHERE name = %s GROUP BY 1"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as made:
        yield made


class Shopping:
    """Buyers who buy one game after the other, each surely: a request without an answer, or that is
    to be tried later, is repeated under its key."""

    def __init__(self, shop: Instance, games: Sequence[str]) -> None:
        self._buyers = [shop.register() for _ in range(BUYERS)]
        self._games = games
        self._enough = Event()
        self._pool = ThreadPoolExecutor(BUYERS)
        self._tasks: list[Future[None]] = []
        self._latest = float("-inf")
        self.orders: dict[str, tuple[Person, str]] = {}
        """What was acknowledged."""

    def __enter__(self) -> Self:
        self._tasks = [self._pool.submit(self._buy_all, buyer) for buyer in self._buyers]
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._pool.shutdown()

    def go_on(self) -> None:
        """Wait for some more purchases."""
        count = len(self.orders) + 2 * BUYERS
        eventually(lambda: len(self.orders) >= count or self._ended())

    def await_one_since(self, moment: float) -> None:
        """Wait until a request that was sent after this moment (monotonic) is acknowledged."""
        eventually(lambda: self._latest > moment or self._ended(), patience=BACK_SECONDS)

    def await_answer(self) -> None:
        """Wait until a query that needs a database is answered."""
        order, (buyer, _) = next(iter(self.orders.items()))
        eventually(partial(is_completed, buyer, order), patience=BACK_SECONDS)

    def end(self) -> None:
        """Have the buyers stop. Raises what went wrong."""
        self._enough.set()
        for task in self._tasks:
            task.result()

    def _ended(self) -> bool:
        return any(task.done() for task in self._tasks)

    def _buy_all(self, buyer: Person) -> None:
        for game in self._games:
            if self._enough.is_set():
                return
            order = self._buy(buyer, game)
            self.orders[order] = (buyer, game)
            eventually(partial(is_completed, buyer, order))
            self._enough.wait(PAUSE_SECONDS)
        raise AssertionError("the games are sold out")

    def _buy(self, buyer: Person, game: str) -> str:
        headers = {"Idempotency-Key": f"{buyer.id}:{game}", "Prefer": "wait=1"}

        def ask() -> httpx.Response | None:
            began = time.monotonic()
            with suppress(httpx.TransportError):
                answer = buyer.buy(game, VISA, **headers)
                if answer.is_success:
                    self._latest = max(self._latest, began)
                return answer
            return None

        answer = eventually(ask, lambda a: a is not None and a.status_code not in {409, 503})
        assert answer is not None
        assert answer.is_success, answer.text
        return str(answer.json()["order_id"])


def is_completed(buyer: Person, order: str) -> bool:
    with suppress(httpx.TransportError):
        return buyer.completed(order)
    return False


# -- what the servers see --------------------------------------------------------------------------


def ask(url: str, query: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as conn:
        return conn.execute(query.encode(), values).fetchall()


def sessions(node: Node) -> Counter[str]:
    """Our sessions at a node, by kind."""
    return Counter(dict(ask(node.url, _SESSIONS)))


def leads(node: Node) -> int:
    """How many of our leaders lead there."""
    return int(ask(node.url, _LEADS)[0][0])


def where_we_are(cluster: Cluster, primary: Node) -> tuple[set[str], list[str], int]:
    """The kinds of our sessions at the primary, those elsewhere, and how many leads are taken."""
    elsewhere = [sessions(node) for node in cluster.nodes if node is not primary]
    return set(sessions(primary)) - PASSING, sorted(chain(*elsewhere)), leads(primary)


# -- purchases -------------------------------------------------------------------------------------


def test_purchases_survive_primaries_that_die_and_freeze(cluster: Cluster, tmp_path: Path) -> None:
    with running(tmp_path, cluster.url, SETTINGS) as shop:
        games = [shop.game(PRICE_CENTS, f"Game {n}") for n in range(GAMES)]
        processes = {name: process.pid for name, process in shop.running.items()}
        orders: dict[str, tuple[Person, str]] = {}
        for _ in range(ROUNDS):
            for fault in ("kill", "pause"):
                with Shopping(shop, games) as shopping:
                    fail_over(cluster, shopping, fault)
                    shopping.end()
                orders |= shopping.orders
        alive = {name: each.pid for name, each in shop.running.items() if each.poll() is None}
        assert alive == processes
        everything_is_settled_once(shop, orders)
        nothing_is_lost_from_the_log(shop, cluster)


def fail_over(cluster: Cluster, shopping: Shopping, fault: str) -> None:
    """Let the primary fail under load, and return later: it follows the one that took over."""
    cluster.await_health()
    before = cluster.primary()
    shopping.go_on()
    normally = where_we_are(cluster, before)
    failed = time.monotonic()
    before.kill() if fault == "kill" else before.pause()
    shopping.await_answer()
    read = time.monotonic()
    after = cluster.await_another(before)
    committed = time.monotonic()
    shopping.await_one_since(failed)
    print(
        f"{fault}: queries were answered after {read - failed:.1f} s,"
        f" the cluster committed after {committed - failed:.1f} s,"
        f" a purchase was taken after {time.monotonic() - failed:.1f} s"
    )
    shopping.go_on()
    before.start() if fault == "kill" else before.go_on()
    cluster.await_health()
    assert cluster.primary() is after
    shopping.go_on()
    eventually(partial(where_we_are, cluster, after), normally.__eq__)


def everything_is_settled_once(shop: Instance, orders: dict[str, tuple[Person, str]]) -> None:
    """Each acknowledged order is there, paid and granted once, and there is no other; the sums are
    right."""
    once = Counter(dict.fromkeys(orders, 1))
    eventually(partial(streams, shop, "order.completed.v1"), once.__eq__)
    assert streams(shop, "order.created.v1") == once
    shop.log_in_anew()
    eventually(
        lambda: len(shop.events(name="library.game.added.v1")), lambda count: count >= len(orders)
    )
    granted = [
        (event["payload"]["user_id"], event["payload"]["game_id"])
        for event in shop.events(name="library.game.added.v1")
    ]
    assert sorted(granted) == sorted((buyer.id, game) for buyer, game in orders.values())
    captured = streams(shop, "payment.transaction.completed.v1")
    assert set(captured.values()) == {1}
    taken = [intent for payment in captured for intent in at_provider(shop, payment)]
    assert [each["status"] for each in taken] == ["succeeded"] * len(orders)
    assert sum(each["amount"] - each["amount_refunded"] for each in taken) == (
        PRICE_CENTS * len(orders)
    )
    totals = shop.admin().get("/api/v1/ledger/trial-balance").json()
    assert totals["balanced"]
    for command in ("quarantine", "dlq"):
        assert json.loads(shop.cli(command, "list", "--json")) == []


def nothing_is_lost_from_the_log(shop: Instance, cluster: Cluster) -> None:
    """The chain is intact, positions have no gap, times never go back, and the read models show
    what is in the log."""
    ((count, first, last),) = ask(cluster.url, _POSITIONS)
    assert (first, last) == (1, count)
    assert ask(cluster.url, _GOES_BACK) == [(0,)]
    assert "intact" in shop.cli("audit", "verify")
    eventually(
        lambda: json.loads(shop.cli("projections", "list", "--json")),
        lambda rows: all(row["lag"] == 0 for row in rows),
    )
    assert all(row["equal"] for row in shop.verify())


def streams(shop: Instance, name: str) -> Counter[str]:
    """How many events of this name each stream has."""
    return Counter(dict(ask(shop.environment["LUDOTECA_DATABASE_URL"], _STREAMS, name)))


def at_provider(shop: Instance, payment_id: str) -> list[dict[str, Any]]:
    address = f"http://127.0.0.1:{shop.environment['LUDOTECA_PROVIDER_PORT']}/v1/payment_intents"
    return list(httpx.get(address, params={"payment_id": payment_id}, timeout=30).json()["data"])


# -- connections -----------------------------------------------------------------------------------


async def test_every_kind_of_connection_leaves_a_node_that_is_demoted(cluster: Cluster) -> None:
    cluster.await_health()
    migrate(cluster.url)
    before = cluster.primary()
    async with (
        PostgresLog.open(cluster.url, CODEC, watched=True) as log,
        asyncio.TaskGroup() as group,
    ):
        seen: list[str] = []
        led_at: list[int] = []
        start = await log.head()
        listening = group.create_task(listen(log, start, seen))
        leading_on = group.create_task(lead(cluster.url, led_at))
        held = await asyncio.to_thread(connect, cluster.url, "ludoteca test")
        await append_surely(log, "before")
        expected = (["before"], [before.port])
        await asyncio.to_thread(eventually, lambda: (seen, led_at), expected.__eq__)
        assert (await pooled_at(log), held.info.port) == (before.port, before.port)

        await asyncio.to_thread(cluster.switch_over)

        await append_surely(log, "after")
        after = await asyncio.to_thread(cluster.primary)
        expected = (["before", "after"], [before.port, after.port])
        await asyncio.to_thread(eventually, lambda: (seen, led_at), expected.__eq__)
        assert await pooled_at(log) == after.port
        with pytest.raises(psycopg.OperationalError):
            held.execute("SELECT 1")
        with connect(cluster.url, "ludoteca test") as again:
            assert again.info.port == after.port
        await asyncio.to_thread(cluster.await_health)
        await asyncio.to_thread(eventually, lambda: not sessions(before))
        assert log.history.generation == 0, "nothing was lost"
        listening.cancel()
        leading_on.cancel()


@pytest.mark.soak
async def test_a_primary_whose_patroni_is_dead_acknowledges_nothing_and_haproxy_leaves_it(
    cluster: Cluster,
) -> None:
    cluster.await_health()
    migrate(cluster.url)
    before = cluster.primary()
    with cluster.haproxy() as url:
        async with (
            PostgresLog.open(url, CODEC, watched=True) as log,
            PostgresLog.open(before.url, CODEC) as astray,
        ):
            start = await log.head()
            await append_surely(log, "before")
            before.kill_patroni()
            await asyncio.to_thread(cluster.await_another, before)
            await append_surely(log, "after")
            with pytest.raises(LogUnavailable):
                await astray.append([new_stream("nobody follows")])
            assert texts_of(await log.read(start)) == ["before", "after"]
    before.kill()
    before.start()
    cluster.await_health()
    with psycopg.connect(before.url) as conn:
        assert conn.execute("SELECT count(*) FROM log.events").fetchone() == (start + 2,)


async def listen(log: PostgresLog, start: int, seen: list[str]) -> None:
    """Note the text of each event as it comes."""
    async for page in log.subscribe(start):
        seen += texts_of(page)


async def lead(url: str, at: list[int]) -> None:
    """Lead for ever, and note the port of each server at which the lead was taken."""
    while True:
        try:
            async with leading(url, "test") as conn:
                at.append(conn.info.port)
                await asyncio.Event().wait()
        except* psycopg.Error:
            await asyncio.sleep(0.1)


async def append_surely(log: PostgresLog, text: str) -> None:
    """Append until it is acknowledged, once."""
    once = IdempotencyKey(uuid4())
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await log.append([new_stream(text)], once=once)
            except LogUnavailable:
                await asyncio.sleep(0.1)
            except AlreadyDone:
                return
            else:
                return


async def pooled_at(log: PostgresLog) -> int:
    """The port of the server that a pooled connection leads to."""
    async with log.pool.connection() as conn:
        return conn.info.port
