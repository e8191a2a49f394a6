"""People buy while processes are killed, one after the other: in the end it is as if nothing had
crashed.

The buyers behave like a good client: they repeat a request without an answer under its
Idempotency-Key.
"""

import json
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

from tests.support.processes.instance import SLOW, VISA, Instance, Person, eventually

pytestmark = pytest.mark.soak

BUYERS, GAMES, ROUNDS = 6, 30, 1
VICTIMS = ("worker", "projector", "api", "provider", "mirror")
RECEIPT_CREATED = "payment.fiscal.receipt.created.v1"
SETTINGS = {
    # Longer than any process is away: no payment may fail here.
    "LUDOTECA_PAYMENT_RETRY_SECONDS": ",".join(["0.2", "0.5", "1", "2", *["4"] * 12]),
}


class Purchases:
    """All orders so far, of all buyers."""

    def __init__(self) -> None:
        self.orders: dict[str, tuple[Person, str]] = {}
        self.buyers_left = BUYERS
        self.enough = threading.Event()

    def are(self, count: int) -> bool:
        return len(self.orders) >= count or not self.buyers_left


def buy_all(purchases: Purchases, buyer: Person, games: list[str], chance: random.Random) -> None:
    """Buy game after game, until there are enough orders."""
    for game in games:
        if purchases.enough.is_set():
            break
        token = chance.choices([VISA, SLOW], [8, 2])[0]
        prefer = chance.choice(["respond-async", "wait=1"])
        purchases.orders[buy_surely(buyer, game, token, prefer)] = (buyer, game)
    purchases.buyers_left -= 1


def buy_surely(buyer: Person, game: str, token: str, prefer: str) -> str:
    """Repeat the request under one key until it is answered; returns the order's id."""
    headers = {"Idempotency-Key": f"{buyer.id}:{game}", "Prefer": prefer}

    def ask() -> httpx.Response | None:
        try:
            return buyer.buy(game, token, **headers)
        except httpx.TransportError:
            return None

    answer = eventually(
        ask, lambda a: a is not None and a.status_code < 500 and a.status_code != 409
    )
    assert answer is not None
    assert answer.status_code in {201, 202}, answer.text
    return str(answer.json()["order_id"])


class History:
    """The events of the log."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self._events = events

    def of(self, name: str) -> list[dict[str, Any]]:
        """The payloads of the events with this name."""
        return [event["payload"] for event in self._events if event["name"] == name]

    def streams(self, name: str) -> Counter[str]:
        """How many events with this name each stream has."""
        return Counter(event["stream_id"] for event in self._events if event["name"] == name)


@pytest.fixture(scope="module")
def purchases(shop: Instance) -> Purchases:
    """The orders placed while every process was killed, at moments drawn from a seed."""
    chance, made = random.Random(4910), Purchases()
    buyers = [shop.register() for _ in range(BUYERS)]
    games = [shop.game(cents=100 + n, title=f"Game {n}") for n in range(GAMES)]
    with ThreadPoolExecutor(BUYERS) as pool:
        shopping = [
            pool.submit(buy_all, made, buyer, chance.sample(games, GAMES), random.Random(n))
            for n, buyer in enumerate(buyers)
        ]
        victims = [each for each in VICTIMS if each in shop.running]
        for _ in range(ROUNDS):
            for victim in chance.sample(victims, len(victims)):
                moment = len(made.orders) + chance.randint(2, 8)
                eventually(partial(made.are, moment))
                shop.kill(victim)
                shop.start(victim)
        made.enough.set()
        for each in shopping:
            each.result()
    for buyer in buyers:
        eventually(partial(statuses, buyer), lambda found: "PENDING_PAYMENT" not in found)
    # each purchase by mail and push, and a welcome to everybody
    wanted = 2 * len(made.orders) + BUYERS
    eventually(
        lambda: (shop.count("notification.sent.v1"), wanted), lambda told: told[0] >= told[1]
    )
    eventually(lambda: shop.count(RECEIPT_CREATED), lambda count: count >= len(made.orders))
    return made


@pytest.fixture(scope="module")
def history(shop: Instance, purchases: Purchases) -> History:
    """The log at the end."""
    return History(shop.events())


def statuses(buyer: Person) -> set[str]:
    try:
        answer = buyer.http.get("/api/v1/orders?limit=200")
    except httpx.TransportError:
        return {"PENDING_PAYMENT"}
    return (
        {order["status"] for order in answer.json()["items"]}
        if answer.is_success
        else {"PENDING_PAYMENT"}
    )


def test_processes_were_killed_while_people_bought(purchases: Purchases) -> None:
    assert len(purchases.orders) >= 2 * ROUNDS * len(VICTIMS)


def test_every_order_was_settled_and_none_was_lost_or_made_twice(
    purchases: Purchases, history: History
) -> None:
    assert set(history.streams("order.created.v1")) == set(purchases.orders)
    assert history.streams("order.completed.v1") == Counter(dict.fromkeys(purchases.orders, 1))
    assert history.of("order.cancelled.v1") == []


def test_every_payment_was_captured_once_here_and_at_the_provider(
    shop: Instance, purchases: Purchases, history: History
) -> None:
    captured = history.streams("payment.transaction.completed.v1")
    assert len(captured) == len(purchases.orders)
    assert set(captured.values()) == {1}
    for payment_id in captured:
        intents = at_provider(shop, payment_id)
        assert [(intent["status"], intent["amount_refunded"]) for intent in intents] == [
            ("succeeded", 0)
        ]


def test_every_buyer_was_granted_each_game_once(purchases: Purchases, history: History) -> None:
    granted = [
        (grant["user_id"], grant["game_id"]) for grant in history.of("library.game.added.v1")
    ]
    bought = [(buyer.id, game) for buyer, game in purchases.orders.values()]
    assert sorted(granted) == sorted(bought)
    for buyer in {buyer.id: buyer for buyer, _ in purchases.orders.values()}.values():
        eventually_has(buyer, sum(person == buyer.id for person, _ in bought))


def eventually_has(buyer: Person, count: int) -> None:
    assert eventually(buyer.titles, lambda titles: len(titles) == count)


def test_every_buyer_was_notified_once_of_each_purchase(
    shop: Instance, purchases: Purchases, history: History
) -> None:
    asked = history.of("notification.requested.v1")
    for channel, files in (("email", "mail/*.eml"), ("push", "push/*.json")):
        here = [notice for notice in asked if notice["channel"] == channel]
        told = Counter(notice["user_id"] for notice in here if notice["template"] == "purchase")
        assert told == Counter(buyer.id for buyer, _ in purchases.orders.values())
        assert set(Counter(notice["cause_event_id"] for notice in here).values()) == {1}
        assert len(list(shop.home.glob(files))) == len(here)
    assert set(history.streams("notification.sent.v1").values()) == {1}


def test_every_order_has_one_receipt_and_the_operator_misses_no_number(
    shop: Instance, purchases: Purchases, history: History
) -> None:
    receipts = history.of(RECEIPT_CREATED)
    assert Counter(receipt["order_id"] for receipt in receipts) == Counter(
        dict.fromkeys(purchases.orders, 1)
    )
    assert set(history.streams("payment.fiscal.receipt.requested.v1").values()) == {1}
    books = Counter((receipt["seller_id"], receipt["year"]) for receipt in receipts)
    for (seller, year), issued in books.items():
        address = (
            f"http://127.0.0.1:{shop.environment['LUDOTECA_FISCAL_PORT']}/v1/books/{seller}/{year}"
        )
        assert httpx.get(address, timeout=30).json() == {
            "issued": issued,
            "last_number": issued,
            "gaps": [],
        }


def test_nothing_waits_in_quarantine_or_among_the_dead(
    shop: Instance, purchases: Purchases
) -> None:
    assert json.loads(shop.cli("quarantine", "list", "--json")) == []
    assert json.loads(shop.cli("dlq", "list", "--json")) == []


def test_the_proofs_hold(shop: Instance, purchases: Purchases) -> None:
    eventually(
        lambda: json.loads(shop.cli("projections", "list", "--json")),
        lambda rows: all(r["lag"] == 0 for r in rows),
    )
    assert all(row["equal"] for row in shop.verify())
    assert "intact" in shop.cli("audit", "verify")


def at_provider(shop: Instance, payment_id: str) -> list[dict[str, Any]]:
    address = f"http://127.0.0.1:{shop.environment['LUDOTECA_PROVIDER_PORT']}/v1/payment_intents"
    return list(httpx.get(address, params={"payment_id": payment_id}, timeout=30).json()["data"])
