"""Two API processes, a projector and a worker: a client that writes at one API process and
immediately reads at the other finds its own writes, without any header."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import httpx
import pytest

from tests.support.processes.instance import (
    VISA,
    Instance,
    Person,
    running,
)
from tests.support.processes.program import Process, started
from tests.support.servers import shared

ROUNDS = 50
"""Rounds of each kind of write; each is followed by one to three queries, 500 in all."""

BY_WALLET, BY_CARD = {"type": "wallet"}, {"type": "card", "token": VISA}


@dataclass
class Client:
    """A person with a connection to each process, who queries the process that they did not write
    to."""

    ways: list[httpx.Client]
    asked: int = 0
    took: float = 0.0
    stale: list[str] = field(default_factory=list)
    _turn: Iterator[int] = field(default_factory=lambda: cycle((0, 1)))

    def write(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        self.here = next(self._turn)
        answer = self.ways[self.here].request(method, f"/api/v1{path}", json=body)
        assert answer.status_code in {200, 201}, answer.text
        return dict(answer.json())

    def ask(self, path: str) -> dict[str, Any]:
        answer = self.ways[1 - self.here].get(f"/api/v1{path}")
        assert answer.status_code == 200, answer.text
        self.asked += 1
        self.took = answer.elapsed.total_seconds()
        return dict(answer.json())

    def must(self, *, see: bool, what: str) -> None:
        """Report every stale answer, not only the first; and how long it took, as a query waits for
        no longer than WAIT_TIMEOUT_SECONDS."""
        if not see:
            self.stale.append(f"{what}, after {self.took:.2f} s")


@dataclass
class Shop:
    """An instance, and a second API process on its database."""

    instance: Instance
    second: str

    def client(self, http: httpx.Client) -> Client:
        token = http.headers["Authorization"]
        other = httpx.Client(base_url=self.second, headers={"Authorization": token}, timeout=30)
        return Client([http, other])

    def buyer(self) -> tuple[Person, Client]:
        person = self.instance.register()
        return person, self.client(person.http)

    def fill(self, wallet_id: str, cents: int) -> None:
        answer = self.instance.admin().post(
            f"/api/v1/wallets/{wallet_id}/add-funds",
            json={"amount_cents": cents, "reason": "for a test"},
        )
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def shop(
    postgres_url: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    database = shared.create_database(postgres_url, template=postgres_template)
    with running(tmp_path_factory.mktemp("home"), database, {}) as instance:
        environment = instance.environment
        settings = {
            name: environment[name]
            for name in ("LUDOTECA_PROVIDER_PORT", "LUDOTECA_FISCAL_PORT", "LUDOTECA_RATE_LIMIT")
        }
        with second_api(instance, database, settings) as (second,):
            second.await_ready()
            yield Shop(instance, second.url)
    shared.drop_database(database)


def second_api(
    instance: Instance, database: str, settings: dict[str, str]
) -> AbstractContextManager[tuple[Process, ...]]:
    return started(Process("api", instance.home, database, **settings))


def test_a_cart_has_what_was_just_put_into_it(shop: Shop) -> None:
    game = shop.instance.stocked(1000)
    _, client = shop.buyer()
    item = client.write("POST", "/cart/items", product_id=game, quantity=1)["items"][0]["id"]
    for n in range(2 * ROUNDS):
        wanted = 2 + n % 3
        client.write("PUT", f"/cart/items/{item}", quantity=wanted)
        seen = client.ask("/cart")["items"][0]["quantity"]
        client.must(see=seen == wanted, what=f"{seen} for {wanted}")
    assert (client.asked, client.stale) == (2 * ROUNDS, [])


@pytest.mark.parametrize("method", [BY_WALLET, BY_CARD], ids=["by wallet", "by card"])
def test_an_order_that_is_completed_is_in_the_list_and_its_game_in_the_library(
    shop: Shop, method: dict[str, str]
) -> None:
    rounds = ROUNDS // 2
    games = [shop.instance.game(100, f"Game {n}") for n in range(rounds)]
    _, client = shop.buyer()
    wallet = client.write("POST", "/wallets", currency="USD")["id"]
    shop.fill(wallet, 100 * rounds)
    for game in games:
        order = client.write("POST", "/orders", game_id=game, payment_method=method)
        assert order["status"] == "COMPLETED"
        order_id = order["order_id"]
        library = values(client.ask("/library?limit=200"), "game_id")
        client.must(see=game in library, what=f"{game} in the library")
        orders = values(client.ask("/orders?limit=200&status=COMPLETED"), "order_id")
        client.must(see=order_id in orders, what=f"{order_id} in the list")
        paid = client.ask(f"/orders/{order_id}")["payment"]["status"]
        client.must(see=paid == "CAPTURED", what=f"{order_id} is {paid}")
    assert (client.asked, client.stale) == (3 * rounds, [])


def test_a_transfer_and_a_deposit_are_in_the_wallet_and_on_its_statement(shop: Shop) -> None:
    _, ann = shop.buyer()
    _, bob = shop.buyer()
    source = ann.write("POST", "/wallets", currency="USD")["id"]
    target = bob.write("POST", "/wallets", currency="USD")["id"]
    shop.fill(source, 100)
    balance = 100
    for n in range(ROUNDS):
        if n % 5 == 4:
            said = {"type": "deposit", "to_wallet_id": source, "payment_method": BY_CARD}
            cents, balance = 50, balance + 50
        else:
            said = {"type": "transfer", "from_wallet_id": source, "to_wallet_id": target}
            cents, balance = 1, balance - 1
        made = ann.write("POST", "/transactions", amount_cents=cents, currency="USD", **said)
        assert made["status"] == "COMPLETED", made
        seen = ann.ask(f"/wallets/{source}")["balance_cents"]
        ann.must(see=seen == balance, what=f"{seen} for {balance}")
        moved = values(ann.ask(f"/wallets/{source}/statement"), "transaction_id")
        ann.must(see=made["id"] in moved, what=f"{made['id']} on the statement")
    assert (ann.asked, ann.stale) == (2 * ROUNDS, [])


def test_a_game_is_as_it_was_just_edited_also_in_lists_that_are_kept(shop: Shop) -> None:
    seller = shop.client(shop.instance.admin())
    game = shop.instance.game(title="before")
    for n in range(ROUNDS):
        title = f"Zelda {n}"
        seller.write("PUT", f"/games/{game}", title=title)
        paths = [f"/games/{game}", "/games?limit=200", "/games/search?q=zelda&limit=200"]
        for path in paths[n % 3 :] + paths[: n % 3]:  # the first query is the soonest
            found = seller.ask(path)
            titles = values(found, "title") if "items" in found else [found["title"]]
            seller.must(see=title in titles, what=f"{title} at {path}: {titles}")
    assert (seller.asked, seller.stale) == (3 * ROUNDS, [])


def values(page: dict[str, Any], name: str) -> list[Any]:
    return [each[name] for each in page["items"]]
