"""A process that is asked to stop finishes what is under way, and ends in time, whatever it waits
for."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from runtime.processes.running import STOP_SECONDS
from tests.support.processes.fleet import Fleet, fleet
from tests.support.processes.instance import Person, eventually
from tests.support.processes.program import Process
from tests.support.servers import shared
from tests.support.servers.faulty_proxy import Proxy

SLACK = 20.0
"""For a busy machine, which does not let a process run when its time has come."""

CUT_SHORT = 70
AT_ONCE = 128 + signal.SIGTERM
JOBS = "SELECT count(*), count(held_by) FROM queue.jobs WHERE queue = 'ludoteca.payments'"


@pytest.fixture(scope="module")
def shop(
    postgres_url: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A shop whose jobs are in PostgreSQL."""
    database = shared.create_database(postgres_url, template=postgres_template)
    settings = {"LUDOTECA_PAYMENT_TIMEOUT_SECONDS": "30"}
    with fleet(tmp_path_factory.mktemp("home"), database, **settings) as made:
        made.start_all({"provider": 1, "api": 1, "projector": 1, "worker": 1})
        yield made
    shared.drop_database(database)


def query(shop: Fleet, statement: str) -> tuple[Any, ...]:
    with psycopg.connect(shop.database) as conn:
        row = conn.execute(statement.encode()).fetchone()
    assert row is not None
    return row


def jobs_under_way(shop: Fleet) -> int:
    return int(query(shop, JOBS)[1])


def order(shop: Fleet, buyers: list[Person], game: str) -> None:
    for buyer in buyers:
        assert buyer.buy(game, Prefer="respond-async").status_code == 202


def test_a_client_that_waits_for_a_payment_is_answered_when_the_process_stops(shop: Fleet) -> None:
    buyer, game = shop.shop.register(), shop.shop.game()
    shop.processes["worker.1"].pause()
    answers: list[httpx.Response] = []
    waiting = threading.Thread(
        target=lambda: answers.append(buyer.buy(game, Prefer="wait=10")), daemon=True
    )
    waiting.start()
    eventually(lambda: shop.shop.count("order.created.v1") == 1)
    assert shop.processes["api.1"].stop() == 0
    waiting.join()
    (answer,) = answers
    assert (answer.status_code, answer.json()["status"]) == (201, "PENDING_PAYMENT")
    assert answer.headers["connection"] == "close"
    shop.processes["api.1"].start()
    shop.await_ready("api.1")
    shop.processes["worker.1"].go_on()
    eventually(lambda: shop.shop.count("order.completed.v1") == 1)


def test_a_worker_that_stops_ends_the_jobs_at_hand_and_leaves_the_others(shop: Fleet) -> None:
    buyers, game = [shop.shop.register() for _ in range(20)], shop.shop.game()
    worker, provider = shop.processes["worker.1"], shop.processes["provider.1"]
    paid = shop.shop.count("payment.transaction.completed.v1")
    provider.pause()
    order(shop, buyers, game)
    begun = 16  # LUDOTECA_WORKERS
    eventually(lambda: query(shop, JOBS), lambda found: found == (len(buyers), begun))
    worker.terminate()
    provider.go_on()
    assert worker.popen.wait(STOP_SECONDS + SLACK) == 0
    assert shop.shop.count("payment.transaction.completed.v1") == paid + begun
    assert query(shop, JOBS) == (len(buyers) - begun, 0)
    worker.start()
    eventually(lambda: query(shop, JOBS) == (0, 0))
    attempts = "SELECT max(count) FROM (SELECT count(*) FROM log.events"
    assert query(shop, f"{attempts} WHERE name = 'payment.submitted.v1' GROUP BY stream_id) s") == (
        1,
    )


def test_a_second_request_ends_a_process_at_once(shop: Fleet) -> None:
    buyer, game = shop.shop.register(), shop.shop.game()
    worker, provider = shop.processes["worker.1"], shop.processes["provider.1"]
    provider.pause()
    order(shop, [buyer], game)
    eventually(lambda: jobs_under_way(shop))
    assert ended_by_repeats(worker) == AT_ONCE
    provider.go_on()
    worker.start()
    eventually(lambda: query(shop, JOBS) == (0, 0))


def ended_by_repeats(process: Process) -> int:
    """Ask it to stop again and again. Returns the exit code."""

    def ask() -> int | None:
        process.terminate()
        return process.code

    code = eventually(ask, lambda found: found is not None)
    assert code is not None
    return code


def test_processes_whose_servers_are_frozen_end_in_time(
    database: str, rabbitmq_url: str, tmp_path: Path
) -> None:
    with Proxy(database) as postgres, Proxy(rabbitmq_url) as rabbitmq:
        settings = {"LUDOTECA_RABBITMQ_URL": rabbitmq.url}
        with fleet(tmp_path, postgres.url, **settings) as shop:
            kinds = ("api", "projector", "worker", "relay")
            shop.start_all({"provider": 1, **dict.fromkeys(kinds, 1)})
            buyer, game = shop.shop.register(), shop.shop.game()
            shop.processes["provider.1"].pause()
            order(shop, [buyer], game)
            eventually(lambda: shop.shop.count("payment.submitted.v1"))
            postgres.freeze()
            rabbitmq.freeze()
            ending = [shop.processes[f"{kind}.1"] for kind in kinds]
            for process in ending:
                process.terminate()
            for process in ending:
                code = process.popen.wait(STOP_SECONDS + SLACK)
                assert code in {0, CUT_SHORT}, process.said
