"""The program through pgbouncer in transaction mode, which is killed and hangs while people buy."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from tests.flow.test_several_processes import buy_surely
from tests.support.processes.instance import Instance, Person, eventually, running
from tests.support.servers import shared
from tests.support.servers.pgbouncer import PgBouncer

BUYERS, GAMES = 3, 20


@pytest.fixture(scope="module")
def database(postgres_url: str, postgres_template: str) -> Iterator[str]:
    url = shared.create_database(postgres_url, template=postgres_template)
    yield url
    shared.drop_database(url)


@pytest.fixture(scope="module")
def bouncer(database: str) -> Iterator[PgBouncer]:
    with PgBouncer(database) as started:
        yield started


@pytest.fixture(scope="module")
def shop(
    database: str, bouncer: PgBouncer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    settings = {"LUDOTECA_DATABASE_URL": bouncer.url, "LUDOTECA_DIRECT_URL": database}
    with running(tmp_path_factory.mktemp("home"), database, settings) as instance:
        yield instance


def test_people_buy(shop: Instance) -> None:
    game, buyer = shop.game(title="Celeste"), shop.register()
    order = buyer.buy(game).json()["order_id"]
    eventually(partial(buyer.completed, order))
    assert buyer.titles() == ["Celeste"]
    eventually(buyer.notices, lambda told: told.count("purchase") == 2)


def test_nothing_is_lost_or_done_twice_while_it_is_killed_and_hangs(
    shop: Instance, bouncer: PgBouncer
) -> None:
    before = shop.count("order.created.v1")
    games = [shop.game(title=f"Game {n}") for n in range(GAMES)]
    buyers = [shop.register() for _ in range(BUYERS)]
    over = threading.Event()

    def disturb() -> None:
        while not over.wait(1.0):
            bouncer.kill()
            over.wait(0.5)
            bouncer.start()
            over.wait(1.0)
            bouncer.freeze()
            over.wait(1.5)
            bouncer.go_on()

    def buy_all(buyer: Person) -> list[str]:
        return [buy_surely(buyer, game) for game in games]

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    try:
        with ThreadPoolExecutor(BUYERS) as pool:
            orders = list(pool.map(buy_all, buyers))
    finally:
        over.set()
        disturbing.join()
    eventually(lambda: httpx.get(f"{shop.base}/health/ready").status_code == 200)
    for buyer, bought in zip(buyers, orders, strict=True):
        for order in bought:
            eventually(partial(buyer.completed, order))
        assert sorted(buyer.titles()) == sorted(f"Game {n}" for n in range(GAMES))
    assert shop.count("order.created.v1") == before + BUYERS * GAMES
    assert shop.count("payment.transaction.completed.v1") == shop.count("order.created.v1")
    assert all(row["equal"] for row in shop.verify())
