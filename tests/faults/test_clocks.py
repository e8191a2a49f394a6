"""Wrong clocks, of the database or of this process: no wrong time becomes history, no decision uses
one, and everything continues by itself once the clocks agree."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from adapters.queues.postgres import PostgresQueue
from commands.caller import SYSTEM
from commands.ports.queue import Job, JobAttempt
from eventstore import chain
from eventstore.chain import ChainVerifier
from eventstore.clock_watch import ClockWatch
from eventstore.database.postgres import open_pool
from eventstore.log import ClocksDiffer, IdempotencyKey, StreamAppend
from eventstore.postgres_log import PostgresLog
from kit.clock import SYSTEM_CLOCK
from kit.metrics import REGISTRY
from runtime.settings import Settings
from runtime.wiring.core import open_core
from tests.support.databases.faketime import Clock, PostgresWithClock
from tests.support.events.notes import CODEC, new_stream, noted
from tests.support.processes.program import Process, eventually, started
from tests.support.shops.gateway import Person, Shop, open_shop
from tests.support.shops.manual import BY_WALLET, Till

HOUR = 3600
CARD = {"type": "card", "token": "pm_card_visa"}
SETTLED_UPTO = "SELECT position FROM consumers.checkpoints WHERE feed LIKE 'settlement%'"
MINUTE = timedelta(minutes=1)


class Moved:
    """The machine's clock, shifted."""

    def __init__(self) -> None:
        self.by = timedelta(0)

    def now(self) -> datetime:
        return SYSTEM_CLOCK.now() + self.by


@pytest.fixture
def clock() -> Iterator[Clock]:
    with Clock() as made:
        yield made


@pytest.fixture
def server(clock: Clock) -> Iterator[PostgresWithClock]:
    with PostgresWithClock(clock) as made:
        yield made


@pytest.fixture
async def shop(server: PostgresWithClock, tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(server.url, tmp_path) as opened:
        yield opened


# -- the database's clock --------------------------------------------------------------------------


async def bought(shop: Shop, seller: Person, buyer: Person) -> dict[str, object]:
    """An order, once its payment is settled and any refund is done."""
    game = await shop.game(seller)
    placed = await buyer.post(
        "/api/v1/orders", json={"game_id": game["id"], "payment_method": CARD}
    )
    assert placed.status_code == 201, placed.text

    async def order() -> dict[str, object]:
        return dict(
            (
                await buyer.get(
                    f"/api/v1/orders/{placed.json()['order_id']}", headers=await shop.reached()
                )
            ).json()
        )

    return await shop.eventually(
        order, lambda found: found["status"] in {"COMPLETED", "CANCELLED", "REFUNDED"}
    )


async def test_purchases_after_the_databases_clock_was_ahead_are_kept(
    shop: Shop, server: PostgresWithClock
) -> None:
    """Whichever release appended meanwhile: a process of this release is refused; one of the
    previous release is not, and the log's time stays ahead from then on."""
    seller, buyer = await shop.register("SELLER"), await shop.register()
    assert (await bought(shop, seller, buyer))["status"] == "COMPLETED"
    server.clock.ahead(HOUR)
    with pytest.raises(ClocksDiffer):
        await shop.commands.accounts.register(
            SYSTEM, email="a@example.com", password=None, name="A", account_type="BUYER"
        )
    append_as_the_release_before(server.url)
    server.clock.ahead(0)
    for _ in range(3):
        order = await bought(shop, seller, buyer)
        assert (order["status"], order["cancel_reason"]) == ("COMPLETED", None)
        assert abs(datetime.fromisoformat(str(order["created_at"])) - datetime.now(UTC)) < MINUTE
    *_, last = await shop.core.log.read(await shop.core.log.head() - 1)
    assert last.env.recorded_at - last.env.occurred_at > timedelta(minutes=55), (
        "the log's time stands still meanwhile"
    )
    assert not await faults(shop.core.log)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_while_the_databases_clock_is_wrong_nothing_becomes_history(
    shop: Shop, server: PostgresWithClock, seconds: int, caplog: pytest.LogCaptureFixture
) -> None:
    seller, buyer = await shop.register("SELLER"), await shop.register()
    game, head = await shop.game(seller), await shop.core.log.head()
    server.clock.ahead(seconds)
    answer = await buyer.post(
        "/api/v1/orders", json={"game_id": game["id"], "payment_method": CARD}
    )
    assert (answer.status_code, answer.json()["code"]) == (503, "clock_skew"), answer.text
    assert "3600." in answer.json()["detail"] or "3599." in answer.json()["detail"]
    assert "retry-after" in answer.headers
    assert any("an append was refused" in record.message for record in caplog.records)
    ready = await shop.client().get("/health/ready")
    assert ready.status_code == 503
    assert ready.json()["dependencies"]["clock"]["status"] == "down"
    metrics = (await shop.client().get("/metrics")).text
    (ahead,) = [
        line for line in metrics.splitlines() if line.startswith("ludoteca_clock_ahead_seconds ")
    ]
    assert float(ahead.split()[1]) == pytest.approx(-seconds, abs=60)
    assert await shop.core.log.head() == head

    server.clock.ahead(0)
    async with asyncio.timeout(20):  # the projector may not have folded its first page yet
        while (await shop.client().get("/health/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await bought(shop, seller, buyer))["status"] == "COMPLETED"


async def test_what_was_under_way_when_the_clock_jumped_goes_on_when_it_is_right(
    server: PostgresWithClock, tmp_path: Path
) -> None:
    """Orders are paid; the worker that has to settle them is resumed while the clocks differ."""
    worker = Process("worker", tmp_path, server.url)
    with started(worker):
        async with open_core(Settings(home=tmp_path, database_url=server.url)) as core:
            till = Till(core, core.clock, "")  # type: ignore[arg-type]
            buyer = await till.person()
            await till.wallet(buyer, 100_000)
            games = [await till.game() for _ in range(5)]
            await asyncio.to_thread(
                eventually, lambda: server.run(SETTLED_UPTO), lambda found: found > [(0,)]
            )
            worker.pause()
            placed = [
                (await core.commands.orders.place(buyer, game, BY_WALLET)).value.order_id
                for game in games
            ]
            server.clock.ahead(-HOUR)
            worker.go_on()
            await asyncio.to_thread(eventually, lambda: "reactor settlement waits" in worker.said)
            assert {(await till.order(order)).status for order in placed} == {"PENDING_PAYMENT"}
            server.clock.ahead(0)
            for order in placed:
                async with asyncio.timeout(20):
                    while (await till.order(order)).status != "COMPLETED":
                        await core.log.watcher.beyond(await core.log.head())
    assert server.run("SELECT count(*) FROM consumers.quarantine") == [(0,)]


def append_as_the_release_before(url: str) -> None:
    """An append without occurred_at, which compares no clocks."""
    digest = chain.digest(
        event := uuid4(), stream := uuid4(), 1, "x.v1", b"{}", "system", None, None, None, None
    )
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(
            "SELECT log.append_v3(ARRAY[(%s, %s, 1, 'x.v1', '{}', 'system', NULL, NULL,"
            " NULL)::log.new_event], ARRAY[%s]::bytea[], '{}', '{}', '{}', '{}', '{}', '{}', true)",
            (event, stream, digest),
        )


async def faults(log: PostgresLog) -> list[object]:
    return [
        step
        async for step in log.verify(ChainVerifier(), upto=await log.head())
        if not isinstance(step, int)
    ]


async def test_jobs_made_to_wait_while_the_clock_was_ahead_are_done_once_it_is_right(
    server: PostgresWithClock,
) -> None:
    """One was published then, one failed then and was to be retried, and one was leased by a worker
    that is gone."""
    async with open_pool(server.url, 4) as pool:
        queue = PostgresQueue(pool, "q", lease_seconds=1, poll_seconds=0.1, backoff=(5,) * 9)
        failed, vanished, fresh = (Job(uuid4(), "x", {}) for _ in range(3))
        done: set[UUID] = set()
        over = asyncio.Event()
        wrong = True

        async def handle(attempt: JobAttempt) -> None:
            if wrong and attempt.job.id == failed.id:
                server.clock.ahead(HOUR)
                raise RuntimeError("try again")
            done.add(attempt.job.id)
            if len(done) == 3:
                over.set()

        await queue.publish([failed])
        consuming = asyncio.create_task(queue.consume(handle))
        due = (
            "SELECT count(*) FROM queue.jobs WHERE error IS NOT NULL AND due_at > now() - interval"
            " '1 minute'"
        )
        await asyncio.to_thread(eventually, lambda: server.run(due), lambda found: found == [(1,)])
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
        await queue.publish([vanished, fresh])
        server.run(
            "UPDATE queue.jobs SET held_by = gen_random_uuid(), due_at = now() + interval '1"
            " second' WHERE id = %s",
            [vanished.id],
        )
        server.clock.ahead(0)
        assert server.run("SELECT min(due_at) > now() + interval '55 minutes' FROM queue.jobs") == [
            (True,)
        ]
        wrong = False
        consuming = asyncio.create_task(queue.consume(handle))
        await asyncio.wait_for(over.wait(), 20)
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
        assert done == {failed.id, vanished.id, fresh.id}


# -- this process's clock --------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_an_append_that_this_processs_clock_misdates_is_refused(
    database: str, seconds: int
) -> None:
    mine = Moved()
    async with (
        PostgresLog.open(database, CODEC, clock=mine) as wrong,
        PostgresLog.open(database, CODEC) as right,
    ):
        await wrong.append([new_stream("before")])
        mine.by = timedelta(seconds=seconds)
        stream, once = uuid4(), IdempotencyKey(uuid4())
        for _ in range(2):
            with pytest.raises(ClocksDiffer) as refused:
                await wrong.append([StreamAppend(stream, 0, noted("misdated"))], once=once)
        assert refused.value.seconds == pytest.approx(seconds, abs=30)
        await right.append([new_stream("of another process")])
        mine.by = timedelta(0)
        await wrong.append([StreamAppend(stream, 0, noted("after"))], once=once)
        events = await right.read()
        assert [each.event.text for each in events] == ["before", "of another process", "after"]
        assert all(abs(each.env.occurred_at - datetime.now(UTC)) < MINUTE for each in events)


async def test_a_step_within_a_batch_refuses_only_what_it_misdates(database: str) -> None:
    mine = Moved()
    async with PostgresLog.open(database, CODEC, clock=mine) as log:
        await log.append([new_stream("first")])

        async def misdated() -> None:
            mine.by = timedelta(hours=1)
            try:
                await log.append([new_stream("misdated")])
            finally:
                mine.by = timedelta(0)

        right = [asyncio.create_task(log.append([new_stream(f"{n}")])) for n in range(40)]
        wrong = asyncio.create_task(misdated())
        await asyncio.sleep(0)
        mine.by = timedelta(0)
        right += [asyncio.create_task(log.append([new_stream(f"{n}")])) for n in range(40, 80)]
        await asyncio.gather(*right)
        with pytest.raises(ClocksDiffer):
            await wrong
        assert await log.head() == 81


def test_a_step_of_the_clock_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    mine = Moved()
    watch = ClockWatch(None, mine, MINUTE)  # type: ignore[arg-type]
    before = steps_counted()
    with caplog.at_level(logging.ERROR):
        for by in (0, 1, 1, HOUR, HOUR, -5):
            mine.by = timedelta(seconds=by)
            watch.look()
    assert steps_counted() == before + 2
    assert [
        "+3599.0" in record.message or "-3605.0" in record.message for record in caplog.records
    ] == [True] * 2


def steps_counted() -> float:
    counted = REGISTRY.get_sample_value("ludoteca_clock_steps_total")
    assert counted is not None
    return counted


def test_a_process_whose_clock_jumps_says_so_and_goes_on(
    clock: Clock, database: str, tmp_path: Path, postgres_template: str
) -> None:
    api = Process("api", tmp_path, database, **clock.environment)
    with started(api), httpx.Client(base_url=api.url) as client:

        def register() -> httpx.Response:
            body = {
                "email": f"{uuid4().hex}@example.com",
                "password": "correct horse",
                "name": "Ann",
            }
            return client.post("/api/v1/users", json={**body, "account_type": "BUYER"})

        def has_counted(steps: int) -> bool:
            return f"ludoteca_clock_steps_total {steps}.0" in client.get("/metrics").text

        api.await_ready()
        assert register().status_code == 201
        for before, seconds in ((0, HOUR), (2, -HOUR)):
            clock.ahead(seconds)
            answer = register()
            assert (answer.status_code, answer.json()["code"]) == (503, "clock_skew"), answer.text
            found = client.get("/health/ready")
            assert found.status_code == 503
            assert found.json()["dependencies"]["clock"] == {"status": "down"}
            assert found.json()["dependencies"]["database"] == {"status": "ok"}
            eventually(lambda: "the clock of this process stepped by" in api.said)
            eventually(partial(has_counted, before + 1))
            clock.ahead(0)
            assert register().status_code == 201
            assert client.get("/health/ready").json()["dependencies"]["clock"] == {"status": "ok"}
            eventually(partial(has_counted, before + 2))
