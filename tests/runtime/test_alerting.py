"""The shop's own alerts: what it sees, that it raises each once, and none for what comes and
goes."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.queues.postgres import PostgresQueue
from commands.ports.queue import Job, JobAttempt
from eventstore.consumers import checkpoints
from eventstore.database.postgres import connect
from kit.clock import SYSTEM_CLOCK
from kit.metrics import CIRCUIT_OPEN
from queries.engine.read_models import ReadModels
from queries.operations.alerts import open_alerts
from queries.operations.control import Operations
from runtime.processes.alert_watch import CONDITIONS, SOURCE, AlertWatch, Condition, Found, Sources
from runtime.settings import Settings
from runtime.wiring.core import Core, open_core
from tests.support import ROOT
from tests.support.events.history import ORDER, order_created
from tests.support.shops.commands import Shop

NAMES = ["alert.raised.v1", "alert.resolved.v1"]


@pytest.fixture
def shop(database: str) -> Shop:
    shop = Shop(database)
    shop.list_games(1)
    shop.project()
    return shop


@asynccontextmanager
async def process(shop: Shop, folder: Path) -> AsyncIterator[Core]:
    async with open_core(Settings(home=folder, database_url=shop.url)) as core:
        yield core


def sources(core: Core, queues: Sequence[PostgresQueue] = (), late_seconds: float = 0.0) -> Sources:
    pool = core.log.pool
    return Sources(
        Operations(pool), ReadModels(pool), pool, queues, SYSTEM_CLOCK, late_seconds=late_seconds
    )


class Trouble:
    """A condition that a test switches on and off, and a clock that it sets."""

    def __init__(self) -> None:
        self.at = 0.0
        self.found: list[Found] = []
        self.is_blind = False
        self.condition = Condition("ConsumerLate", "warning", self._look)

    async def _look(self, _: Sources) -> Sequence[Found]:
        if self.is_blind:
            raise ConnectionError("nobody answers")
        return self.found

    def watch(self, core: Core, hold_seconds: float, *more: Condition) -> AlertWatch:
        return AlertWatch(
            core.commands.alerts,
            sources(core),
            hold_seconds=hold_seconds,
            conditions=[self.condition, *more],
            now=lambda: self.at,
        )


ONE = Found({"consumer": "orders.2"}, "orders is late")
OTHER = Found({"consumer": "games.2"}, "games is late")


async def recorded(core: Core) -> list[str]:
    return [each.env.name for each in await core.log.read(names=NAMES)]


async def test_what_holds_for_a_while_is_an_alert_until_it_is_over_for_a_while(
    shop: Shop, tmp_path: Path
) -> None:
    raised, resolved = NAMES
    trouble = Trouble()
    async with process(shop, tmp_path) as core:
        watch = trouble.watch(core, 30)

        async def look(at: float, *found: Found) -> list[str]:
            trouble.at, trouble.found = at, list(found)
            await watch.look()
            await asyncio.to_thread(shop.project)
            return await recorded(core)

        assert await look(0, ONE) == []
        assert await look(29, ONE) == []
        assert await look(30, ONE) == [raised]
        assert await look(90, ONE) == [raised]
        # it is gone for a moment, and back
        assert await look(100) == [raised]
        assert await look(110, ONE) == [raised]
        assert await look(140) == [raised]
        assert await look(169) == [raised]
        assert await look(170) == [raised, resolved]
        # what comes and goes in less than that is none
        assert await look(200, ONE) == [raised, resolved]
        assert await look(210) == [raised, resolved]
        assert await look(235, ONE) == [raised, resolved]


async def test_what_came_due_while_no_worker_ran_is_caught_up_with_first(
    shop: Shop, tmp_path: Path
) -> None:
    trouble = Trouble()
    trouble.found = [Found(ONE.labels, ONE.summary, late=300)]
    async with process(shop, tmp_path) as core:
        watch = trouble.watch(core, 30)
        for at, times in (0, 0), (299, 0), (300, 0), (329, 0), (330, 1):
            trouble.at = at
            await watch.look()
            assert await recorded(core) == NAMES[:1] * times
        await asyncio.to_thread(shop.project)
        # one that leads from now on does not take it for resolved
        successor = trouble.watch(core, 30)
        for at in (330, 400):
            trouble.at = at
            await successor.look()
        assert await recorded(core) == NAMES[:1]


async def test_of_two_processes_that_see_the_same_one_raises_it(shop: Shop, tmp_path: Path) -> None:
    trouble = Trouble()
    trouble.found = [ONE, OTHER]
    async with process(shop, tmp_path) as first, process(shop, tmp_path) as second:
        watches = [trouble.watch(each, 0) for each in (first, second)]
        await asyncio.gather(*(watch.look() for watch in watches))
        assert await recorded(first) == ["alert.raised.v1"] * 2
        # the read model does not show them yet
        await asyncio.gather(*(watch.look() for watch in watches))
        assert await recorded(first) == ["alert.raised.v1"] * 2


async def test_another_process_resolves_what_one_that_died_had_raised(
    shop: Shop, tmp_path: Path
) -> None:
    trouble = Trouble()
    trouble.found = [ONE]
    async with process(shop, tmp_path) as core:
        await trouble.watch(core, 0).look()
    await asyncio.to_thread(shop.project)
    trouble.found = []
    async with process(shop, tmp_path) as core:
        await trouble.watch(core, 0).look()
        assert await recorded(core) == NAMES


async def test_what_cannot_be_looked_at_is_left_as_it_is(shop: Shop, tmp_path: Path) -> None:
    trouble, other = Trouble(), Trouble()
    trouble.found = [ONE]
    other.condition = Condition("DeadLetters", "warning", other._look)
    async with process(shop, tmp_path) as core:
        watch = trouble.watch(core, 0, other.condition)
        await watch.look()
        await asyncio.to_thread(shop.project)
        trouble.is_blind, trouble.found = True, []
        other.found = [Found({"queue": "mail"}, "mail has dead letters")]
        failed = await watch.look()
        assert list(failed) == ["ConsumerLate"]
        assert await recorded(core) == ["alert.raised.v1"] * 2
        await asyncio.to_thread(shop.project)
        known = await open_alerts(ReadModels(core.log.pool), SOURCE)
        assert {each.name for each in known} == {"ConsumerLate", "DeadLetters"}


# -- what it sees ----------------------------------------------------------------------------------


async def seen(of: Sources) -> dict[str, list[dict[str, str]]]:
    found = {each.name: await each.look(of) for each in CONDITIONS}
    return {name: [dict(one.labels) for one in ones] for name, ones in found.items() if ones}


async def test_of_a_shop_at_rest_nothing_is_wrong(shop: Shop, tmp_path: Path) -> None:
    async with process(shop, tmp_path) as core:
        assert await seen(sources(core)) == {}


async def test_a_consumer_that_stands_still_is_late(shop: Shop, tmp_path: Path) -> None:
    async with process(shop, tmp_path) as core:
        await asyncio.to_thread(shop.list_games, 1)
        found = await seen(sources(core))
        assert {each["consumer"].partition(".")[0] for each in found.pop("ConsumerLate")} >= {
            "games",
            "orders",
        }
        assert found == {}
        assert await seen(sources(core, late_seconds=3600)) == {}


async def test_a_stream_in_quarantine_is_seen(shop: Shop, tmp_path: Path) -> None:
    await asyncio.to_thread(shop.poison)
    await asyncio.to_thread(shop.project)
    async with process(shop, tmp_path) as core:
        held = (await seen(sources(core)))["StreamsQuarantined"]
    assert {each["consumer"].partition(".")[0] for each in held} >= {"games"}


async def test_a_consumer_of_another_history_is_seen(shop: Shop, tmp_path: Path) -> None:
    with connect(shop.url, "test") as conn:
        every = checkpoints.subscriptions(conn)
        (feed,) = [each.name for each in every if each.projection == "users"]
        conn.execute("UPDATE consumers.checkpoints SET position = 999 WHERE feed = %s", (feed,))
    async with process(shop, tmp_path) as core:
        assert (await seen(sources(core)))["ConsumerAstray"] == [{"consumer": feed}]


async def test_dead_letters_and_jobs_that_wait_are_seen(shop: Shop, tmp_path: Path) -> None:
    async def fail(_: JobAttempt) -> None:
        raise RuntimeError("the server is down")

    async with process(shop, tmp_path) as core:
        dead, waiting = (
            PostgresQueue(core.log.pool, name, backoff=[0.01], poll_seconds=0.02)
            for name in ("dead", "waiting")
        )
        await dead.publish([Job(ORDER, "mail")])
        await waiting.publish([Job(ORDER, "mail")])
        consuming = asyncio.create_task(dead.consume(fail, concurrency=1))
        async with asyncio.timeout(30):
            while not await dead.dead():  # noqa: ASYNC110 - it happens in the database
                await asyncio.sleep(0.02)
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
        found = await seen(sources(core, [dead, waiting]))
        assert found == {"DeadLetters": [{"queue": "dead"}], "JobsWait": [{"queue": "waiting"}]}


async def test_a_deadline_that_nobody_handles_is_seen(shop: Shop, tmp_path: Path) -> None:
    past = SYSTEM_CLOCK.now() - timedelta(minutes=5)
    await asyncio.to_thread(shop.append, ORDER, 0, order_created(expires_at=past))
    await asyncio.to_thread(shop.project)
    async with process(shop, tmp_path) as core:
        assert await seen(sources(core, late_seconds=60)) == {"DeadlinesLate": [{}]}
        assert await seen(sources(core, late_seconds=3600)) == {}


async def test_what_the_audit_found_and_that_it_stands_is_seen(shop: Shop, tmp_path: Path) -> None:
    async with process(shop, tmp_path) as core:
        await core.commands.findings.open("wallet_equals_account", "x", "differs", 1)
        await asyncio.to_thread(shop.project)
        found = await seen(sources(core))
        assert found == {"InvariantViolated": [{"invariant": "wallet_equals_account"}]}
        async with core.log.pool.connection() as conn:
            await conn.execute(
                "INSERT INTO consumers.self_audit (invariant, scope, meaning, looked_at, seconds,"
                " head, after, upto, settled, checked, violations, unsettled, failure) VALUES"
                " ('x', 'sample', '', now() - interval '2 hours', 0, 1, 0, 1, 1, 1, 0, 0, '')"
            )
        assert (await seen(sources(core)))["SelfAuditStands"] == [{}]


async def test_a_server_that_is_left_alone_is_seen(shop: Shop, tmp_path: Path) -> None:
    CIRCUIT_OPEN.labels("s3").set(1)
    try:
        async with process(shop, tmp_path) as core:
            assert (await seen(sources(core)))["ServerAway"] == [{"server": "s3"}]
    finally:
        CIRCUIT_OPEN.remove("s3")


def test_every_condition_has_its_section_in_the_runbook() -> None:
    runbook = (ROOT / "docs" / "runbooks" / "alerts.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (\w+)$", runbook, re.MULTILINE)
    names = [each.name for each in CONDITIONS]
    assert [each for each in sections if each in names] == names
