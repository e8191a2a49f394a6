"""A server that accepts no writes for a while: demoted, without rights, or killed. No event is
blamed, and everything continues afterwards."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import httpx
import pytest

from domain.errors import Refused
from eventstore.consumers.reactor_runner import ReactorRunner
from eventstore.log import AlreadyDone, LogUnavailable, Recorded, StreamAppend
from eventstore.postgres_log import PostgresLog
from projections.engine.runner import Runner
from tests.support.events.tallies import CODEC, Counted, Ignored, tallies
from tests.support.processes.instance import PASSWORD, Instance, eventually, running
from tests.support.servers.own_postgres import OwnPostgres

SPELLS = {
    "read-only": (OwnPostgres.read_only, OwnPostgres.writable),
    "robbed of its tables": (
        lambda server: server.run("ALTER SCHEMA consumers RENAME TO stolen"),
        lambda server: server.run("ALTER SCHEMA stolen RENAME TO consumers"),
    ),
    "robbed of its rights": (
        lambda server: server.run("REVOKE USAGE ON SCHEMA log FROM ludoteca_app"),
        lambda server: server.run("GRANT USAGE ON SCHEMA log TO ludoteca_app"),
    ),
    "killed": (OwnPostgres.kill, lambda _: None),
}


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    with OwnPostgres() as made:
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


@pytest.mark.parametrize("spell", SPELLS)
async def test_after_a_spell_without_writes_everybody_goes_on_and_nobody_is_blamed(
    server: OwnPostgres, spell: str
) -> None:
    begin, end = SPELLS[spell]
    async with PostgresLog.open(server.url, CODEC, pool_size=3) as log:
        start, quarantined = (
            await log.head(),
            server.run("SELECT count(*) FROM consumers.quarantine"),
        )
        runner = ReactorRunner(server.url, log, [Answering(log)], outcomes=(Refused, AlreadyDone))
        reacting = asyncio.create_task(runner.run())
        projecting = Runner(server.url, CODEC, [tallies()])
        thread = threading.Thread(target=projecting.run)
        thread.start()
        for by in range(10):
            await log.append([StreamAppend(uuid4(), 0, [Counted(by=by)])])
        begin(server)
        if spell == "killed":
            server.start()
        refused = 0
        spell_ends = time.monotonic() + 3
        while time.monotonic() < spell_ends:
            try:
                async with asyncio.timeout(15):
                    await log.append([StreamAppend(uuid4(), 0, [Counted(by=1)])])
            except LogUnavailable:
                refused += 1
            if spell == "read-only":
                assert await log.head() > start  # reads continue
            await asyncio.sleep(0.05)
        assert refused or spell in ("killed", "robbed of its tables")
        end(server)
        async with asyncio.timeout(20):
            while True:
                try:
                    await log.append([StreamAppend(uuid4(), 0, [Counted(by=1)])])
                    break
                except LogUnavailable:
                    await asyncio.sleep(0.05)

        def caught_up() -> bool:
            ((behind,),) = server.run(
                "SELECT count(*) FROM consumers.checkpoints WHERE position < (SELECT max(position)"
                " FROM log.events)"
            )
            ((counted, answered),) = server.run(
                "SELECT count(*) FILTER (WHERE name = %s), count(*) FILTER (WHERE name = %s) FROM"
                " log.events WHERE position > %s",
                (Counted.NAME, Ignored.NAME, start),
            )
            return bool(behind == 0 and answered >= counted)

        await asyncio.to_thread(eventually, caught_up, bool, 25)
        reacting.cancel()
        projecting.stop()
        await asyncio.to_thread(thread.join, 20)
        assert server.run("SELECT count(*) FROM consumers.quarantine") == quarantined
        await asyncio.gather(reacting, return_exceptions=True)


def _said(answer: httpx.Response) -> tuple[int, str, bool]:
    body: dict[str, Any] = answer.json() if "json" in answer.headers.get("content-type", "") else {}
    return answer.status_code, str(body.get("code")), "retry-after" in answer.headers


@pytest.mark.soak
@pytest.mark.parametrize(
    ("begin", "end", "seconds"),
    [
        pytest.param(OwnPostgres.read_only, OwnPostgres.writable, 3, id="read-only for 3 s"),
        pytest.param(OwnPostgres.read_only, OwnPostgres.writable, 60, id="read-only for 60 s"),
        pytest.param(OwnPostgres.pause, OwnPostgres.go_on, 30, id="paused for 30 s"),
    ],
)
def test_a_shop_outlives_it(
    tmp_path: Path,
    begin: Callable[[OwnPostgres], None],
    end: Callable[[OwnPostgres], None],
    seconds: float,
) -> None:
    with OwnPostgres() as server, running(tmp_path, server.url, {}) as shop:
        _is_sold_a_game(shop)
        begin(server)
        over = time.monotonic() + seconds
        answers = []
        while time.monotonic() < over:
            start = time.monotonic()
            answers.append(_said(_registered(shop)))
            assert time.monotonic() - start < 25  # 15 s are promised on an idle machine
            time.sleep(0.2)
        end(server)
        refused = [answer for answer in answers if answer[0] != 201]
        assert refused
        assert {status for status, _, _ in refused} == {503}, refused
        assert all(code != "None" and retry for _, code, retry in refused), refused
        eventually(lambda: _said(_registered(shop)), lambda said: said[0] == 201, patience=20)
        _is_sold_a_game(shop)
        assert server.run("SELECT feed, error FROM consumers.quarantine") == []
        assert {kind: process.poll() for kind, process in shop.running.items()} == dict.fromkeys(
            shop.running
        )


def _registered(shop: Instance) -> httpx.Response:
    body = {
        "email": f"{uuid4().hex}@example.com",
        "password": PASSWORD,
        "name": "Ann",
        "account_type": "BUYER",
    }
    return shop.http().post("/api/v1/users", json={**body, "region": "US"}, timeout=40)


def _is_sold_a_game(shop: Instance) -> None:
    game, buyer = shop.game(), shop.register()
    order = buyer.buy(game).json()["order_id"]
    eventually(lambda: buyer.order(order).get("status") == "COMPLETED")
