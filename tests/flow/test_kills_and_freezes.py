"""Several processes of each kind work on one PostgreSQL and one RabbitMQ, and any of them is killed
or frozen at any time: in the end it is as if nothing had happened.

Of each kind that leads, the leader is frozen until another process has taken over, and then goes on
with what it had begun.
"""

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aio_pika
import psycopg
import pytest

from adapters.relay.rabbitmq import EXCHANGE
from tests.support.processes.fleet import Fleet, fleet
from tests.support.processes.instance import eventually
from tests.support.shops.aftermath import Aftermath
from tests.support.shops.customers import Customers

COUNTS = {"provider": 1, "fiscal": 1, "api": 3, "projector": 2, "worker": 2, "relay": 2}
NAMES = [f"{kind}.{n}" for kind, count in COUNTS.items() for n in range(1, count + 1)]
LED = {"projector": "orders.%", "worker": "settlement.1", "relay": "relay.1"}
"""Of each kind that leads, something that it leads."""

SUBSCRIBER = "subscriber"
REPLACED = 60.0
"""Twenty seconds are promised; the rest is for a busy machine."""

_LEADER = """
SELECT pid FROM pg_locks JOIN consumers.checkpoints ON objid =
    (hashtext(feed)::bigint & 4294967295)::oid
WHERE locktype = 'advisory' AND classid = 4911 AND granted AND feed LIKE %s
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


class Trouble:
    """Kills, freezes and resumes processes of a fleet, at moments drawn from a seed."""

    def __init__(self, shop: Fleet, customers: Customers, seed: int) -> None:
        self._shop = shop
        self._customers = customers
        self._chance = random.Random(f"trouble {seed}")
        self.frozen: dict[str, set[int]] = {}

    def after_some_deeds(self) -> None:
        """Wait until the customers have done some things more."""
        wanted = self._customers.done.count + self._chance.randint(1, 6)
        eventually(partial(self._customers.have_done, wanted), patience=240)

    def freeze_leaders(self) -> None:
        """Freeze one process of each kind, of those that lead the first one, which leads."""
        for kind in self._chance.sample([*LED, "api"], 4):
            number = 1 if kind in LED else self._chance.choice([1, 2, 3])
            if kind in LED:
                self.frozen[f"{kind}.1"] = leaders(self._shop.database, kind)
            self._shop.processes[f"{kind}.{number}"].pause()
            self.frozen.setdefault(f"{kind}.{number}", set())
            self.after_some_deeds()

    def resume_once_replaced(self) -> None:
        """Resume what is frozen, the leaders as soon as another process leads."""
        for name in self._chance.sample(sorted(self.frozen), len(self.frozen)):
            before = self.frozen.pop(name)
            if before:
                eventually(
                    partial(self._is_replaced, name.partition(".")[0], before), patience=REPLACED
                )
            self._shop.processes[name].go_on()

    def kill_one(self) -> None:
        """Kill a process that is not frozen, and start it again."""
        victim = self._chance.choice([name for name in NAMES if name not in self.frozen])
        self._shop.processes[victim].kill()
        self._shop.processes[victim].start()

    def _is_replaced(self, kind: str, before: set[int]) -> bool:
        now = leaders(self._shop.database, kind)
        return bool(now) and not now & before


def leaders(database: str, kind: str) -> set[int]:
    """The sessions that lead what processes of this kind lead."""
    with psycopg.connect(database, autocommit=True) as conn:
        return {pid for (pid,) in conn.execute(_LEADER, [LED[kind]])}


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_whoever_is_killed_or_frozen_nothing_is_lost_or_done_twice(
    seed: int, database: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    asyncio.run(subscribe(rabbitmq_url))
    with (
        fleet(tmp_path, database, LUDOTECA_RABBITMQ_URL=rabbitmq_url) as shop,
        merchant() as (hook, delivered),
    ):
        shop.start_all(dict.fromkeys(COUNTS, 1))
        eventually(lambda: all(leaders(database, kind) for kind in LED))
        for name in NAMES:
            if name not in shop.processes:
                shop.start(name)
                shop.await_ready(name)
        customers = Customers(shop.shop, lambda: shop.urls, seed)
        want_webhooks(shop, hook)
        trouble = Trouble(shop, customers, seed)
        customers.start()
        try:
            trouble.after_some_deeds()
            trouble.freeze_leaders()
            for _ in range(2):
                trouble.kill_one()
                trouble.after_some_deeds()
            trouble.resume_once_replaced()
            for _ in range(4):
                trouble.kill_one()
                trouble.after_some_deeds()
        finally:
            done = customers.finish()
        for name, process in shop.processes.items():
            assert process.code is None, process.said
            shop.await_ready(name)

        after = Aftermath(shop.shop, customers)
        after.check()
        completed = set(after.streams("order.completed.v1"))
        eventually(lambda: set(delivered.values()) == completed)
        assert len(delivered) == len(completed)
        head = max(event["position"] for event in after.events)
        seen = asyncio.run(published(rabbitmq_url, head))
        assert first_of_each(seen) == list(range(1, head + 1))
    assert len(done.orders) >= 20


# -- webhooks --------------------------------------------------------------------------------------


@contextmanager
def merchant() -> Iterator[tuple[str, dict[str, str]]]:
    """A merchant's server: its URL, and the orders that it was told of by their messages' ids."""
    delivered: dict[str, str] = {}
    told = threading.Lock()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with told:
                delivered[self.headers["webhook-id"]] = body["data"]["order"]["order_id"]
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/hook", delivered
        finally:
            server.shutdown()
            thread.join()


def want_webhooks(shop: Fleet, url: str) -> None:
    """Have all completed orders reported there."""
    body = {"url": url, "events": ["order.completed.v1"]}
    answer = shop.shop.admin().post("/api/v1/webhook-endpoints", json=body)
    assert answer.status_code == 201, answer.text


# -- the bus ---------------------------------------------------------------------------------------


async def subscribe(url: str) -> None:
    """Make a queue that gets everything that is published from now on."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        exchange = await channel.declare_exchange(EXCHANGE, "topic", durable=True)
        queue = await channel.declare_queue(SUBSCRIBER, durable=True)
        await queue.bind(exchange, "#")


async def published(url: str, head: int) -> list[int]:
    """The positions of all that was published, up to the head of the log."""
    seen: list[int] = []
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        queue = await channel.get_queue(SUBSCRIBER)
        async with queue.iterator(no_ack=True, timeout=60) as messages:
            async for message in messages:
                seen.append(json.loads(message.body)["position"])
                if seen[-1] == head:
                    return seen
    return seen


def first_of_each(positions: list[int]) -> list[int]:
    """Without repeats."""
    return list(dict.fromkeys(positions))
