"""Customers who use a shop while its processes fail. They behave like good clients: a request
without an answer is repeated under its Idempotency-Key, at any API process."""

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import httpx

from tests.support.processes.instance import SLOW, VISA, Instance, Person, eventually

REPEATED = {"idempotency_in_progress", "version_conflict"}
"""Refusals that ask the client to try again."""

INITIAL_CENTS = 100_000
"""More than anybody spends. A refusal would leave a doubt: a process that was frozen with the first
request may carry it out when it goes on, though the repeat was refused elsewhere."""

PATIENCE = 240.0
ADDRESS = {
    "name": "Ann",
    "line1": "1 High Street",
    "city": "Lyon",
    "postal_code": "69001",
    "country": "FR",
}


@dataclass
class Done:
    """What customers were told is done: orders by their ids, with buyer, game, amount and method;
    transactions, with type, wallets and amount; refunds of orders."""

    orders: dict[str, "Ordered"] = field(default_factory=dict)
    moved: dict[str, "Moved"] = field(default_factory=dict)
    refunds: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.orders) + len(self.moved) + len(self.refunds)


@dataclass(frozen=True)
class Ordered:
    buyer: str
    game: str
    cents: int
    method: str  # card, wallet, cart


@dataclass(frozen=True)
class Moved:
    """Money that came into a wallet; from another one, unless it is a deposit."""

    target: str
    source: str | None
    cents: int


@dataclass
class Customer:
    """A person with a wallet. `urls` tells where API processes listen."""

    person: Person
    wallet: str
    urls: Callable[[], Sequence[str]]
    chance: random.Random

    def surely(
        self, method: str, path: str, body: dict[str, Any] | None = None, **headers: str
    ) -> httpx.Response:
        """The answer to a request, repeated until there is one."""
        key = {"Idempotency-Key": str(UUID(int=self.chance.getrandbits(128)))}
        authorization = {"Authorization": self.person.http.headers["Authorization"]}

        def ask() -> httpx.Response | None:
            try:
                return httpx.request(
                    method,
                    f"{self.chance.choice(self.urls())}/api/v1{path}",
                    json=body,
                    headers={**authorization, **key, **headers},
                    timeout=5,
                )
            except httpx.TransportError:  # killed, frozen or slow
                return None

        answer = eventually(ask, _is_final, patience=PATIENCE)
        assert answer is not None
        return answer


def _is_final(answer: httpx.Response | None) -> bool:
    if answer is None or answer.status_code >= 500:
        return False
    return answer.status_code != 409 or answer.json()["code"] not in REPEATED


class Customers:
    """Some customers, who buy, pay, deposit and transfer by chance. `parcel` is a game in stock."""

    def __init__(
        self,
        shop: Instance,
        urls: Callable[[], Sequence[str]],
        seed: int,
        *,
        count: int = 4,
        games: int = 40,
        refunds: bool = True,
    ) -> None:
        self._refunds = refunds
        self._chance = random.Random(seed)
        self.done = Done()
        self.games = [shop.game(100 + n, f"Game {n}") for n in range(games)]
        self.parcel = shop.stocked(1_000)
        self.people = [
            Customer(person, _wallet_of(person, shop), urls, random.Random(f"{seed} {n}"))
            for n, person in enumerate(shop.register() for _ in range(count))
        ]
        self._admin = Customer(
            Person("", "", shop.admin()), "", urls, random.Random(f"{seed} admin")
        )
        self._enough = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []

    def start(self) -> None:
        """Let them begin."""
        for each in self.people:
            thread = threading.Thread(target=self._shop, args=[each], name="customer")
            self._threads.append(thread)
            thread.start()

    def finish(self) -> Done:
        """Let them end what they are doing. Returns what was done."""
        self._enough.set()
        for each in self._threads:
            each.join()
        if self._failures:
            raise self._failures[0]
        return self.done

    def deposit_at(self, url: str) -> None:
        """Have one of them deposit money at this API process."""
        one = replace(self.people[0], urls=lambda: [url], chance=random.Random(url))
        self._deposit(one, [])

    def have_done(self, number: int) -> bool:
        """Whether they have done so many things; True also if none is left who could."""
        return self.done.count >= number or not any(each.is_alive() for each in self._threads)

    def _shop(self, customer: Customer) -> None:
        try:
            wanted = customer.chance.sample(self.games, len(self.games))
            deeds = (self._by_card, self._by_wallet, self._cart, self._deposit, self._transfer)
            while wanted and not self._enough.is_set():
                deed = customer.chance.choices(deeds, [5, 2, 2, 3, 2])[0]
                deed(customer, wanted)
                self._enough.wait(customer.chance.uniform(0, 0.6))
        except BaseException as error:
            self._failures.append(error)

    # -- what they do ------------------------------------------------------------------------------

    def _by_card(self, customer: Customer, wanted: list[str]) -> None:
        token = customer.chance.choices([VISA, SLOW], [8, 2])[0]
        order = self._order(customer, wanted.pop(), {"type": "card", "token": token})
        if self._refunds and customer.chance.random() < 0.2:
            self._refund(customer, order)

    def _by_wallet(self, customer: Customer, wanted: list[str]) -> None:
        self._order(customer, wanted.pop(), {"type": "wallet"})

    def _order(self, customer: Customer, game: str, method: dict[str, str]) -> str:
        prefer = customer.chance.choice(["respond-async", "wait=1"])
        body = {"game_id": game, "payment_method": method}
        answer = customer.surely("POST", "/orders", body, Prefer=prefer)
        assert answer.status_code in {201, 202}, answer.text
        order = answer.json()
        self.done.orders[order["order_id"]] = Ordered(
            customer.person.id, game, order["amount_cents"], method["type"]
        )
        return str(order["order_id"])

    def _refund(self, customer: Customer, order: str) -> None:
        """Have it refunded once it is paid."""

        def is_paid() -> bool:
            answer = customer.surely("GET", f"/orders/{order}")
            return answer.status_code == 200 and answer.json()["status"] == "COMPLETED"

        eventually(is_paid, patience=PATIENCE)
        answer = self._admin.surely("POST", f"/orders/{order}/refund", {"reason": "regret"})
        assert answer.status_code in {201, 202}, answer.text
        self.done.refunds.append(order)

    def _cart(self, customer: Customer, _: list[str]) -> None:
        item = {"product_id": self.parcel, "quantity": 1}
        added = customer.surely("POST", "/cart/items", item)
        assert added.status_code == 201, added.text
        body = {"payment_method": {"type": "card", "token": VISA}, "shipping_address": ADDRESS}
        answer = customer.surely("POST", "/cart/checkout", body, Prefer="respond-async")
        assert answer.status_code in {201, 202}, answer.text
        order = answer.json()
        self.done.orders[order["order_id"]] = Ordered(
            customer.person.id, self.parcel, order["amount_cents"], "cart"
        )

    def _deposit(self, customer: Customer, _: list[str]) -> None:
        self._move(customer, customer.wallet, None, customer.chance.randint(100, 2000))

    def _transfer(self, customer: Customer, _: list[str]) -> None:
        target = customer.chance.choice([each for each in self.people if each is not customer])
        self._move(customer, target.wallet, customer.wallet, customer.chance.randint(1, 300))

    def _move(self, customer: Customer, target: str, source: str | None, cents: int) -> None:
        body: dict[str, Any] = {"amount_cents": cents, "currency": "USD", "to_wallet_id": target}
        if source is None:
            more = {"type": "deposit", "payment_method": {"type": "card", "token": VISA}}
        else:
            more = {"type": "transfer", "from_wallet_id": source}
        answer = customer.surely("POST", "/transactions", {**body, **more}, Prefer="wait=1")
        assert answer.status_code in {201, 202}, answer.text
        self.done.moved[answer.json()["transaction_id"]] = Moved(target, source, cents)


def _wallet_of(person: Person, shop: Instance) -> str:
    """A new wallet with INITIAL_CENTS."""
    answer = person.http.post("/api/v1/wallets", json={"currency": "USD"})
    assert answer.status_code == 201, answer.text
    wallet = str(answer.json()["id"])
    body = {"amount_cents": INITIAL_CENTS, "reason": "a gift"}
    answer = shop.admin().post(f"/api/v1/wallets/{wallet}/add-funds", json=body)
    assert answer.status_code == 200, answer.text
    return wallet
