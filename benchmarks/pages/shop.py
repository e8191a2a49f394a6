"""A shop with something on each page, made over HTTP by buyers, a seller and an operator."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import msgspec
import psycopg

from benchmarks.http.endpoints import ADDRESS, CARD
from benchmarks.http.wrk import Failed
from runtime.bootstrap import SAMPLE

BUYERS, ORDERS_EACH, ORDERS_OF_ANN = 20, 12, 40
GAMES_OF_SELLER, PARCELS, DEAD_LETTERS = 40, 20, 50
PATIENCE_SECONDS = 120.0
LOOK_SECONDS = 0.2
PASSWORD = "correct horse battery"
ADMIN = "admin@example.com"

_DEAD = """
INSERT INTO queue.jobs (queue, id, kind, body, attempts, error, died_at)
SELECT 'ludoteca.payments', id, 'charge', jsonb_build_object('payment_id', id,
    'causation_id', id, 'correlation_id', id), 3, 'the provider did not answer: timed out', now()
FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, %s)) AS new"""

T = TypeVar("T")
Json = dict[str, Any]


class Person(msgspec.Struct, frozen=True):
    """Somebody with an account, and a client of the API that is logged in as them."""

    id: str
    email: str
    http: httpx.Client


class Shop(msgspec.Struct, frozen=True):
    """Who visits the pages, and the ids that stand in their paths. `last` is the log's last
    position."""

    buyer: Person
    seller: Person
    operator: Person
    ids: Mapping[str, str]
    last: int


def fill(base: str, environment: Mapping[str, str]) -> Shop:
    """Fill an empty shop; a worker, the projector and the simulators have to run."""
    _cli(environment, "admin", "create", "--email", ADMIN, "--password", PASSWORD, "--name", "Ada")
    _cli(environment, "load", "games", str(SAMPLE))
    admin, seller = _log_in(base, ADMIN), _register(base, "SELLER")
    own = [_offer(seller, number) for number in range(GAMES_OF_SELLER)]
    sample = _priced(base, without=own)
    ann, *others = [_register(base, "BUYER") for _ in range(1 + BUYERS)]
    order = _order_box(ann, own[0])
    for number, other in enumerate(others):
        for game in sample[number : number + ORDERS_EACH]:
            _buy(other, game)
        _order_box(other, own[number % PARCELS * 2])
    for game in sample[:ORDERS_OF_ANN]:
        _buy(ann, game)
    wallet = _wallet(ann, _register(base, "BUYER"))
    for number in range(4):
        _post(ann, "/cart/items", {"product_id": own[number * 2], "quantity": 2})
    with psycopg.connect(environment["LUDOTECA_DATABASE_URL"]) as conn:
        conn.execute(_DEAD, [DEAD_LETTERS])
    return _looked_up(Shop(ann, seller, admin, {"order": order, "wallet": wallet}, 0), sample, own)


def _looked_up(shop: Shop, sample: Sequence[str], own: Sequence[str]) -> Shop:
    """The shop with all ids, once its orders are completed."""
    buyer, seller, admin = shop.buyer, shop.seller, shop.operator
    await_(lambda: _items(buyer, "/library"), lambda games: len(games) >= ORDERS_OF_ANN)
    parcels = await_(lambda: _items(seller, "/shipments"), lambda parcels: len(parcels) >= PARCELS)
    parcel = str(parcels[0]["id"])
    _post(admin, "/audit/checkpoints")
    task = _post(admin, "/audit/verifications")
    await_(lambda: _get(admin, f"/audit/tasks/{task['id']}")["state"] == "DONE")
    orders = _items(admin, "/audit/log", name="order.completed.*")
    _post(admin, "/audit/checkpoints")
    signed = _items(admin, "/audit/checkpoints")
    return msgspec.structs.replace(
        shop,
        ids={
            **shop.ids,
            "game": sample[0],
            "box": own[0],
            "parcel": parcel,
            "endpoint": str(_items(seller, "/webhook-endpoints")[0]["id"]),
            "event": str(orders[-1]["position"]),
            "account": str(_items(admin, "/ledger/accounts")[0]["id"]),
            "task": str(task["id"]),
            "checkpoint": str(signed[0]["size"]),
            "first checkpoint": str(signed[-1]["size"]),
        },
        last=int(_items(admin, "/audit/log")[0]["position"]),
    )


# -- what people do --------------------------------------------------------------------------------


def _offer(seller: Person, number: int) -> str:
    """A game of a seller; every second one is a box. Its first has a webhook endpoint, too."""
    kind = "DIGITAL" if number % 2 else "PHYSICAL"
    body = {
        "sku": uuid4().hex[:8],
        "title": f"Harbour {number}",
        "kind": kind,
        "status": "ACTIVE",
        "description": "For one to five players, an hour or so.",
        "prices": [{"region": "*", "amount_cents": 3990, "currency": "USD"}],
    }
    game_id = str(_post(seller, "/games", body)["id"])
    if kind == "PHYSICAL":
        stock = {"product_id": game_id, "total_quantity": 40}
        seller.http.put("/api/v1/inventory/stock", json=stock).raise_for_status()
    if number == 0:
        hook = {"url": "https://hooks.harbour.example/", "events": ["order.*", "shipment.*"]}
        _post(seller, "/webhook-endpoints", hook)
    return game_id


def _priced(base: str, *, without: Sequence[str]) -> list[str]:
    """The ids of games on sale that are not among these."""
    with httpx.Client(base_url=base, timeout=30) as http:
        answer = http.get("/api/v1/games", params={"limit": 200}).raise_for_status()
    games = answer.json()["items"]
    return [each["id"] for each in games if each["prices"] and each["id"] not in without]


def _buy(buyer: Person, game_id: str) -> None:
    body = {"game_id": game_id, "payment_method": CARD}
    _post(buyer, "/orders", body, Prefer="respond-async")


def _order_box(buyer: Person, game_id: str) -> str:
    _post(buyer, "/cart/items", {"product_id": game_id, "quantity": 1})
    body = {"payment_method": CARD, "shipping_address": ADDRESS}
    return str(_post(buyer, "/cart/checkout", body)["order_id"])


def _wallet(owner: Person, friend: Person) -> str:
    """A wallet with movements."""
    ours, theirs = (
        str(_post(person, "/wallets", {"currency": "USD"})["id"]) for person in (owner, friend)
    )
    move = {"currency": "USD", "to_wallet_id": ours}
    deposit = {**move, "type": "deposit", "amount_cents": 10_000, "payment_method": CARD}
    _post(owner, "/transactions", deposit)
    await_(lambda: _get(owner, f"/wallets/{ours}")["balance_cents"])
    gift = {"type": "transfer", "currency": "USD", "from_wallet_id": ours, "to_wallet_id": theirs}
    for _ in range(20):
        _post(owner, "/transactions", {**gift, "amount_cents": 100})
    return ours


# -- requests --------------------------------------------------------------------------------------


def _register(base: str, account_type: str) -> Person:
    email = f"{uuid4().hex}@example.com"
    body = {"email": email, "password": PASSWORD, "name": "Ann Lee", "region": "US"}
    with httpx.Client(base_url=base, timeout=30) as http:
        answer = http.post("/api/v1/users", json={**body, "account_type": account_type})
    made = answer.raise_for_status().json()
    return Person(made["id"], email, _client(base, made["access_token"]))


def _log_in(base: str, email: str) -> Person:
    with httpx.Client(base_url=base, timeout=30) as http:
        answer = http.post("/api/v1/auth/login", json={"email": email, "password": PASSWORD})
    http = _client(base, answer.raise_for_status().json()["access_token"])
    return Person(http.get("/api/v1/users/me").raise_for_status().json()["id"], email, http)


def _client(base: str, token: str) -> httpx.Client:
    return httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=30)


def _post(person: Person, path: str, body: object = None, **headers: str) -> Json:
    answer = person.http.post(f"/api/v1{path}", json=body, headers=headers)
    if not answer.is_success:
        raise Failed(f"{path}: {answer.status_code} {answer.text}")
    return dict(answer.json())


def _get(person: Person, path: str, **query: str) -> Json:
    answer = person.http.get(f"/api/v1{path}", params=query).raise_for_status()
    return dict(answer.json())


def _items(person: Person, path: str, **query: str) -> list[Json]:
    """A page of a list, as long as pages may be."""
    return list(_get(person, path, limit="100", **query)["items"])


def await_(look: Callable[[], T], wanted: Callable[[T], object] = bool) -> T:
    """What is seen once it is as wanted. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not wanted(found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {found!r}")
        time.sleep(LOOK_SECONDS)
    return found


def _cli(environment: Mapping[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "runtime.cli", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
