"""The twin that our API is compared with (benchmarks/http/twin) is a fair one: it gives the same
answers, field by field, and refuses what a shop must refuse."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
import pytest_asyncio
from fastapi import FastAPI
from joserfc.jwk import OKPKey

from api.tokens import new_private_key
from benchmarks.http import shop as benchmark_shop
from benchmarks.http.twin.app import create_app
from benchmarks.http.twin.common import mint
from tests.support.servers.shared import create_database, drop_database
from tests.support.shops.gateway import CARD, Shop
from tests.support.shops.market import ADDRESS, WAIT, put_in, stocked
from tests.support.shops.money import filled_wallet

Json = dict[str, Any]

KEY = OKPKey.import_key(new_private_key())
QUARTER = timedelta(minutes=15)
CENTS = benchmark_shop.PLENTY


@pytest.fixture(scope="module")
def twin_database(postgres_url: str) -> Iterator[str]:
    url = create_database(postgres_url, template="template1")
    yield url
    drop_database(url)


@dataclass
class Copied:
    """A shop in which a person owns a game and has a cart, and the twin with the same data. That
    person is the first of `data.accounts`, and sends the requests."""

    ours: httpx.AsyncClient
    theirs: httpx.AsyncClient
    twin: FastAPI
    data: benchmark_shop.Shop
    conn: psycopg.AsyncConnection

    async def number(self, statement: LiteralString) -> int:
        """The result of a query on the twin's tables."""
        row = await (await self.conn.execute(statement)).fetchone()
        assert row is not None
        return int(row[0])


def twin_client(twin: FastAPI, token: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(twin)
    return httpx.AsyncClient(transport=transport, base_url="http://twin", headers=headers)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def copied(shop: Shop, twin_database: str) -> AsyncIterator[Copied]:
    seller, admin = await shop.register("SELLER"), await shop.register("ADMIN")
    buyer, other = await shop.register(region="US"), await shop.register(region="US")
    games = [await shop.game(seller, title=f"Celeste {n}", tags=["Hard"]) for n in range(3)]
    product = await stocked(shop, seller, CENTS, title="Catan")
    body = {"game_id": games[0]["id"], "payment_method": {"type": "card", "token": CARD}}
    placed = (await buyer.post("/api/v1/orders", json=body, headers=WAIT)).json()
    assert placed["status"] == "COMPLETED"
    assert (await put_in(buyer, product, 2)).status_code == 201
    wallets = [await filled_wallet(each, admin, CENTS) for each in (buyer, other)]

    async def done() -> bool:
        order = (await buyer.get(f"/api/v1/orders/{placed['order_id']}")).json()
        return [each["status"] for each in order["receipts"]] == ["CREATED"]

    await shop.eventually(done)
    reached = await shop.reached()
    clients = {str(each.id): each.client for each in (buyer, other)}

    def asking(account: benchmark_shop.Account | None) -> httpx.AsyncClient:
        client = shop.client()
        if account is not None:
            client.headers["Authorization"] = clients[str(account.user_id)].headers["Authorization"]
        client.headers.update(reached)
        return client

    data = benchmark_shop.Shop(
        games=[UUID(game["id"]) for game in games],
        titles=[game["title"] for game in games],
        products=[UUID(product["id"])],
        accounts=[benchmark_shop.Account(each.id, uuid4()) for each in (buyer, other)],
        wallets=[UUID(wallet["id"]) for wallet in wallets],
        orders=[(0, UUID(placed["order_id"]))],
    )
    await benchmark_shop.copy(asking, data, twin_database)
    twin = create_app(twin_database, KEY)
    async with (
        twin.router.lifespan_context(twin),
        twin_client(twin, mint(KEY, buyer.id, QUARTER)) as theirs,
        await psycopg.AsyncConnection.connect(twin_database, autocommit=True) as conn,
    ):
        yield Copied(asking(data.accounts[0]), theirs, twin, data, conn)


# -- answers ---------------------------------------------------------------------------------------


ASKED = (
    ("get", "/api/v1/games/{game_id}"),
    ("get", "/api/v1/games"),
    ("get", "/api/v1/games/search"),
    ("get", "/api/v1/library"),
    ("get", "/api/v1/orders/{order_id}"),
    ("get", "/api/v1/cart"),
    ("post", "/api/v1/orders"),
    ("post", "/api/v1/cart/items"),
    ("post", "/api/v1/cart/checkout"),
    ("post", "/api/v1/transactions"),
)
"""Everything that the benchmark requests."""


async def test_the_twin_declares_the_fields_of_our_answers(copied: Copied, shop: Shop) -> None:
    for method, path in ASKED:
        ours = _declared(shop.app, method, path)
        assert ours, path
        assert _as_far_as(ours, _declared(copied.twin, method, path)) == ours, path


def _as_far_as(ours: Json, theirs: Json) -> Json:
    """The twin's answer without the content of fields that we do not declare: the entries of
    timelines, which leave out absent fields."""
    return {
        name: _as_far_as(ours[name], inner) if ours.get(name) else {}
        for name, inner in theirs.items()
    }


def _declared(app: FastAPI, method: str, path: str) -> Json:
    document = app.openapi()
    answers = document["paths"][path][method]["responses"]
    answer = answers["201" if method == "post" else "200"]
    schema = answer["content"]["application/json"]["schema"]
    return _fields(schema, document["components"]["schemas"])


def _fields(schema: Json, schemas: Json) -> Json:
    """The names of the fields, with those of their content."""
    if "$ref" in schema:
        return _fields(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    found: Json = {
        name: _fields(each, schemas) for name, each in schema.get("properties", {}).items()
    }
    inner = [schema["items"]] if "items" in schema else []
    for each in [*inner, *schema.get("anyOf", ()), *schema.get("allOf", ())]:
        found |= _fields(each, schemas)
    return found


async def test_the_twin_answers_queries_as_we_do(copied: Copied) -> None:
    game_id, order_id = copied.data.games[0], copied.data.orders[0][1]
    paths = (f"games/{game_id}", "games?limit=20", "library", f"orders/{order_id}", "cart")
    for path in paths:
        ours = await copied.ours.get(f"/api/v1/{path}")
        theirs = await copied.theirs.get(f"/api/v1/{path}")
        assert (ours.status_code, theirs.status_code) == (200, 200), theirs.text
        assert _comparable(theirs.json()) == _comparable(ours.json()), path


def _comparable(value: Any) -> Any:
    """Without the positions of events, which differ between the two, and the provider's page to
    pay on, which the twin has not."""
    if isinstance(value, list):
        return [_comparable(each) for each in value]
    if isinstance(value, dict):
        left_out = {"position", "checkout_url"}
        return {name: _comparable(each) for name, each in value.items() if name not in left_out}
    return value


async def test_the_twin_finds_games_by_words(copied: Copied) -> None:
    page = (await copied.theirs.get("/api/v1/games/search?q=celeste+1")).json()

    assert [game["title"] for game in page["items"]] == ["Celeste 1"]
    assert page["items"][0]["highlight"] == "<em>Celeste</em> <em>1</em>"
    assert (page["total"], page["next_cursor"]) == (1, None)
    assert page["facets"]["tag"] == [{"value": "Hard", "count": 1}]
    assert page["facets"]["price"] == [{"price_min": 1000, "price_max": 1999, "count": 1}]


async def test_pages_of_the_twin_follow_each_other(copied: Copied) -> None:
    first = (await copied.theirs.get("/api/v1/games?limit=3")).json()
    query = {"limit": 3, "cursor": first["next_cursor"]}
    second = (await copied.theirs.get("/api/v1/games", params=query)).json()

    titles = [game["title"] for game in first["items"] + second["items"]]
    assert titles == ["Catan", "Celeste 2", "Celeste 1", "Celeste 0"]
    assert second["next_cursor"] is None


# -- authorization ---------------------------------------------------------------------------------


async def test_the_twin_refuses_who_has_no_valid_token_or_no_open_account(copied: Copied) -> None:
    user_id = copied.data.accounts[0].user_id
    forged = mint(OKPKey.import_key(new_private_key()), user_id, QUARTER)
    for token in (forged, mint(KEY, user_id, -QUARTER), mint(KEY, uuid4(), QUARTER)):
        async with twin_client(copied.twin, token) as http:
            assert (await http.get("/api/v1/library")).status_code == 401


async def test_the_twin_shows_an_order_to_its_buyer_only(copied: Copied) -> None:
    other = mint(KEY, copied.data.accounts[1].user_id, QUARTER)
    async with twin_client(copied.twin, other) as http:
        assert (await http.get(f"/api/v1/orders/{copied.data.orders[0][1]}")).status_code == 403


# -- commands --------------------------------------------------------------------------------------


async def test_the_twin_places_an_order_once_under_a_key(copied: Copied) -> None:
    body = {
        "game_id": str(copied.data.games[1]),
        "payment_method": {"type": "card", "token": CARD},
    }
    headers = {"Idempotency-Key": "first"}

    first = await copied.theirs.post("/api/v1/orders", json=body, headers=headers)
    again = await copied.theirs.post("/api/v1/orders", json=body, headers=headers)
    reused = await copied.theirs.post(
        "/api/v1/orders", json={"game_id": str(copied.data.games[2])}, headers=headers
    )
    other_key = await copied.theirs.post("/api/v1/orders", json=body)
    owned = await copied.theirs.post("/api/v1/orders", json={"game_id": str(copied.data.games[0])})

    assert (first.status_code, again.json()) == (201, first.json())
    assert [each.status_code for each in (reused, other_key, owned)] == [422, 409, 409]
    assert await copied.number("SELECT count(*) FROM jobs") == 1
    shown = (await copied.theirs.get(f"/api/v1/orders/{first.json()['order_id']}")).json()
    assert [each["name"] for each in shown["timeline"]] == ["order.created", "payment.requested"]
    assert shown["total_cents"] == first.json()["amount_cents"] == 1999


async def test_the_twin_holds_stock_for_a_cart_and_allocates_it_to_the_order(
    copied: Copied,
) -> None:
    body = {"product_id": str(copied.data.products[0]), "quantity": 3}
    checkout = {"payment_method": {"type": "card", "token": CARD}, "shipping_address": ADDRESS}
    too_many = await copied.theirs.post("/api/v1/cart/items", json={**body, "quantity": CENTS})
    cart = await copied.theirs.post("/api/v1/cart/items", json=body)
    assert (too_many.status_code, cart.status_code) == (409, 201)
    assert [item["quantity"] for item in cart.json()["items"]] == [2, 3]
    assert await copied.number("SELECT reserved FROM stock") == 5

    placed = await copied.theirs.post("/api/v1/cart/checkout", json=checkout)

    assert placed.status_code == 201
    assert await copied.number("SELECT reserved FROM stock") == 0
    assert await copied.number("SELECT allocated FROM stock") == 5
    assert (await copied.theirs.get("/api/v1/cart")).json()["items"] == []
    shown = (await copied.theirs.get(f"/api/v1/orders/{placed.json()['order_id']}")).json()
    (shipment,) = shown["shipments"]
    assert [line["quantity"] for line in shipment["lines"]] == [2, 3]
    assert shown["shipping_address"] == ADDRESS
    assert (await copied.theirs.post("/api/v1/cart/checkout", json=checkout)).status_code == 409


async def test_the_twin_moves_money_from_wallet_to_wallet(copied: Copied) -> None:
    source, target = map(str, copied.data.wallets)
    body = {
        "type": "transfer",
        "amount_cents": 30,
        "currency": "USD",
        "from_wallet_id": source,
        "to_wallet_id": target,
    }
    moved = await copied.theirs.post("/api/v1/transactions", json=body)
    too_much = await copied.theirs.post(
        "/api/v1/transactions", json={**body, "amount_cents": CENTS}
    )
    another = await copied.theirs.post(
        "/api/v1/transactions", json={**body, "from_wallet_id": target, "to_wallet_id": source}
    )

    assert [each.status_code for each in (moved, too_much, another)] == [201, 409, 403]
    assert moved.json()["status"] == "COMPLETED"
    assert await copied.number("SELECT sum(balance_cents) FROM wallets") == 2 * CENTS
    assert await copied.number("SELECT min(balance_cents) FROM wallets") == CENTS - 30
    assert await copied.number("SELECT sum(amount_cents) FROM wallet_entries") == 0
