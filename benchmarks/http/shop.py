"""The data: games, buyers, their libraries and carts; created in our shop by its own commands, and
copied to the twin from our API's answers."""

import asyncio
import csv
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx
import msgspec
import psycopg
from joserfc.jwk import OKPKey
from psycopg import sql
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from api.tokens import ACCESS_LIFETIME, Tokens
from benchmarks.http.twin.common import mint
from benchmarks.http.twin.tables import TABLES
from benchmarks.server import free_port
from commands.caller import SYSTEM, Caller
from domain.catalog import Listing, Price
from domain.library import LibraryGameAdded
from domain.payments import Method
from kit.uuid7 import uuid7
from runtime.bootstrap import SAMPLE
from runtime.load import load_games
from runtime.settings import Settings
from runtime.wiring.core import Core

GAMES = 11_002
REGION = "US"
PRODUCTS = 64
READERS, OWNED = 40, 20
BUYERS = 1024
PLENTY = 1_000_000
PATIENCE_SECONDS = 300
DAY = 86_400
AT_ONCE = 64
CARD = Method("card", "pm_card_visa")

T = TypeVar("T")
U = TypeVar("U")


class Account(msgspec.Struct, frozen=True):
    """A buyer, logged in."""

    user_id: UUID
    session_id: UUID


class Shop(msgspec.Struct):
    """The data that requests refer to. The first `READERS` accounts own games and have carts; the
    others buy. `wallets` belong to the accounts, in the same order."""

    games: Sequence[UUID]
    titles: Sequence[str]
    products: Sequence[UUID]
    accounts: Sequence[Account]
    wallets: Sequence[UUID]
    orders: list[tuple[int, UUID]] = msgspec.field(default_factory=list)
    """Completed orders, with the index of the account."""


def games_file(given: Path | None, folder: Path) -> Path:
    """The games to load: a CSV file for `ludoteca load games`; without one, the sample that comes
    with the program, repeated until it is as large as a real catalogue."""
    if given is not None:
        return given
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        sample = list(csv.DictReader(file))
    path = folder / "games.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, sample[0].keys())
        writer.writeheader()
        titles = (
            {**row, "title": f"{row['title']} {number}" if number > 1 else row["title"]}
            for number in count(1)
            for row in sample
        )
        writer.writerows(islice(titles, GAMES))
    return path


def settings(url: str, home: Path) -> Settings:
    """The settings of a shop on a database: the defaults, except for free ports, no limits of
    requests per client, and carts that do not expire during the benchmark."""
    return Settings(
        home=home,
        database_url=SecretStr(url),
        port=free_port(),
        provider_port=free_port(),
        fiscal_port=free_port(),
        rate_limit="off",
        sample="off",
        cart_ttl_seconds=DAY,
        cart_max_seconds=DAY,
    )


def environment(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, for processes that have no other variables of the
    program."""
    told = settings.model_dump(exclude_unset=True) | {
        "database_url": settings.database_url.get_secret_value()
    }
    others = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("LUDOTECA_", "PG"))
    }
    return {**others, **{f"LUDOTECA_{name.upper()}": str(value) for name, value in told.items()}}


# -- ours ------------------------------------------------------------------------------------------


async def fill(core: Core, base: str, games: Path) -> Shop:
    """Create the data by our commands; `base` is the URL of our API. A worker, the projector and
    the provider have to run."""
    report = await load_games(core, games)
    if not report.loaded:
        raise ValueError(f"there are no games in {games}: {report}")
    products = await _made(range(PRODUCTS), lambda number: _product(core, number))
    accounts = await _made(range(READERS + BUYERS), lambda _: _account(core))
    wallets = await _made(accounts, lambda account: _wallet(core, account))
    async with client(base, await core.log.head()) as http:
        found = [game for game in await _all(http, "/games") if game["kind"] == "DIGITAL"]
    shop = Shop(
        [UUID(game["id"]) for game in found],
        [game["title"] for game in found],
        products,
        accounts,
        wallets,
    )
    await _made(range(READERS), lambda reader: _read(core, shop, reader))
    await _granted(core, len(shop.orders))
    return shop


def client(base: str, position: int, token: str = "") -> httpx.AsyncClient:
    """A client of our API that sees at least everything up to a position."""
    headers = {"Min-Position": str(position)}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return httpx.AsyncClient(base_url=base, headers=headers, timeout=30, trust_env=False)


async def get(http: httpx.AsyncClient, path: str, **query: str) -> Any:
    """The answer, once the read models are where the client wants them. Raises ValueError unless it
    is 200."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await http.get(f"/api/v1{path}", params=query)
        while answer.status_code == 503:
            await asyncio.sleep(float(answer.headers.get("Retry-After", 1)))
            answer = await http.get(f"/api/v1{path}", params=query)
    if answer.status_code != 200:
        raise ValueError(f"{path}: {answer.status_code} {answer.text}")
    return answer.json()


async def _all(http: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    """All items of a list."""
    items, query = [], {"limit": "200"}
    while True:
        page = await get(http, path, **query)
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        query["cursor"] = page["next_cursor"]


async def _made(items: Sequence[T], make: Callable[[T], Awaitable[U]]) -> list[U]:
    """Apply a function to each item, a few at a time; the results are in the items' order."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(item: T) -> U:
        async with turns:
            return await make(item)

    return await asyncio.gather(*map(one, items))


async def _product(core: Core, number: int) -> UUID:
    admin = Caller("benchmark", uuid7(), "ADMIN")
    listing = Listing(
        sku=f"BOX-{number}",
        title=f"Board game {number}",
        kind="PHYSICAL",
        prices=(Price("*", 1999, "USD"),),
    )
    product_id: UUID = (await core.commands.catalog.create(admin, listing, "ACTIVE")).value
    await core.commands.inventory.set_total(admin, product_id, PLENTY)
    return product_id


async def _account(core: Core) -> Account:
    made = await core.commands.accounts.register(
        SYSTEM, email=f"{uuid4().hex}@example.com", password=None, name="Ann", region=REGION
    )
    login = await core.commands.logins.open(made.value)
    return Account(made.value.user_id, login.session_id)


async def _wallet(core: Core, account: Account) -> UUID:
    wallet_id = (await core.commands.wallets.create(_as(account), "USD")).value
    await core.commands.wallets.add_funds(
        Caller("benchmark", uuid7(), "ADMIN"), wallet_id, PLENTY, "for the benchmark"
    )
    return wallet_id


async def _read(core: Core, shop: Shop, reader: int) -> None:
    """Let a reader own some games, and put two items into the cart."""
    account = shop.accounts[reader]
    for number in range(OWNED):
        game_id = shop.games[(reader * OWNED + number) % len(shop.games)]
        placed = await core.commands.orders.place(_as(account), game_id, CARD)
        shop.orders.append((reader, placed.value.order_id))
    for number in range(2):
        await core.commands.carts.add(_as(account), shop.products[reader + number], 1)


def _as(account: Account) -> Caller:
    return Caller(f"user:{account.user_id}", account.user_id, "BUYER")


async def _granted(core: Core, orders: int) -> None:
    """Wait until the libraries contain this many games."""
    granted = position = 0
    async with asyncio.timeout(PATIENCE_SECONDS):
        while granted < orders:
            head = await core.log.watcher.beyond(position)
            page, position = await core.log.read_page(
                position, head, names=[LibraryGameAdded.NAME], limit=orders
            )
            granted += len(page)


# -- the twin --------------------------------------------------------------------------------------


Asking = Callable[[Account | None], httpx.AsyncClient]
"""Opens a client of our API, with or without an account; its queries reflect everything done
before."""


async def copy(asking: Asking, shop: Shop, url: str) -> None:
    """Fill the twin's database from our API's answers."""
    async with asking(None) as http:
        games = await _all(http, "/games")
    orders, library, carts = [], [], []
    for account in shop.accounts[:READERS]:
        async with asking(account) as http:
            orders += await _all(http, "/orders")
            owner = {"user_id": account.user_id}
            library += [{**owner, **each} for each in await _all(http, "/library")]
            carts.append({**owner, **await get(http, "/cart")})
    with psycopg.connect(url) as conn:
        conn.execute(TABLES.encode())
        with conn.pipeline():
            _insert(conn, "users", map(_user_row, shop.accounts))
            _insert(conn, "games", map(_game_row, games))
            _insert(
                conn, "stock", ({"product_id": each, "total": PLENTY} for each in shop.products)
            )
            _insert_orders(conn, orders)
            _insert(conn, "library", library)
            _insert_carts(conn, carts)
            _insert(conn, "wallets", map(_wallet_row, shop.accounts, shop.wallets))
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")


def _insert(conn: psycopg.Connection, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert rows, each with those of its fields that are columns of the table."""
    names = _COLUMNS[table]
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, names)),
        sql.SQL(", ").join(sql.Placeholder() * len(names)),
    )
    with conn.cursor() as cursor:
        cursor.executemany(statement, [[row.get(name) for name in names] for row in rows])


_HAPPENED = (
    "name", "at", "status", "reason", "code", "detail", "amount_cents", "method", "provider",
    "provider_ref", "attempt",
)  # fmt: skip
_COLUMNS: Mapping[str, Sequence[str]] = {
    "users": ("id", "status", "role", "region"),
    "games": (
        "id", "seller_id", "sku", "title", "description", "publisher", "category", "genres",
        "tags", "platforms", "release_date", "kind", "prices", "image_ids", "status", "version",
        "created_at", "updated_at",
    ),
    "stock": ("product_id", "total"),
    "orders": (
        "id", "user_id", "region", "currency", "total_cents", "refunded_cents", "status",
        "provisional", "cancel_reason", "payment_id", "expires_at", "created_at", "updated_at",
    ),
    "order_lines": (
        "id", "order_id", "game_id", "seller_id", "kind", "title", "quantity", "unit_price_cents",
        "shipment_id",
    ),
    "payments": (
        "id", "order_id", "amount_cents", "refunded_cents", "refund_status", "currency", "status",
        "method", "provider", "client_secret", "redirect_url", "code", "detail", "expires_at",
        "created_at", "updated_at",
    ),
    "receipts": (
        "id", "order_id", "seller_id", "number", "year", "amount_cents", "currency", "status",
        "url", "issued_at",
    ),
    "happenings": ("order_id", "payment_id", *_HAPPENED),
    "library": ("user_id", "game_id", "order_id", "purchase_date"),
    "carts": ("id", "user_id", "status", "currency", "version", "expires_at"),
    "cart_items": (
        "id", "cart_id", "product_id", "seller_id", "sku", "title", "quantity",
        "unit_price_cents", "reservation_id",
    ),
    "wallets": ("id", "user_id", "currency", "status", "balance_cents"),
}  # fmt: skip


def _user_row(account: Account) -> dict[str, Any]:
    return {"id": account.user_id, "status": "ACTIVE", "role": "BUYER", "region": REGION}


def _game_row(game: dict[str, Any]) -> dict[str, Any]:
    return {**game, "prices": Jsonb(game["prices"])}


def _wallet_row(account: Account, wallet_id: UUID) -> dict[str, Any]:
    row = {"id": wallet_id, "user_id": account.user_id, "currency": "USD", "status": "ACTIVE"}
    return {**row, "balance_cents": PLENTY}


def _insert_orders(conn: psycopg.Connection, orders: Sequence[dict[str, Any]]) -> None:
    """Insert orders of digital games, with their lines, payments and histories."""
    payments = [order["payment"] for order in orders]
    _insert(conn, "orders", orders)
    lines = [
        {**line, "id": line["line_id"], "order_id": order["id"]}
        for order in orders
        for line in order["lines"]
    ]
    _insert(conn, "order_lines", lines)
    _insert(conn, "payments", payments)
    receipts = (receipt for order in orders for receipt in order["receipts"])
    _insert(conn, "receipts", ({**receipt, "id": uuid4()} for receipt in receipts))
    timeline = [
        {**each, "order_id": order["id"], "payment_id": _payment_of(order, each)}
        for order in orders
        for each in order["timeline"]
    ]
    _insert(conn, "happenings", sorted(timeline, key=lambda each: int(each["position"])))


def _payment_of(order: dict[str, Any], event: dict[str, Any]) -> str | None:
    """The payment's id if the event is also in the payment's history."""
    in_history = any(each["position"] == event["position"] for each in order["payment"]["history"])
    return str(order["payment_id"]) if in_history else None


def _insert_carts(conn: psycopg.Connection, carts: Sequence[dict[str, Any]]) -> None:
    carts = [cart for cart in carts if cart["id"] is not None]
    _insert(conn, "carts", ({**cart, "version": 1} for cart in carts))
    for cart in carts:
        items = ({**item, "cart_id": cart["id"]} for item in cart["items"])
        _insert(conn, "cart_items", items)
        for item in cart["items"]:
            conn.execute(
                "UPDATE stock SET reserved = reserved + %s WHERE product_id = %s",
                (item["quantity"], item["product_id"]),
            )


# -- tokens ----------------------------------------------------------------------------------------


def our_token(tokens: Tokens, account: Account) -> str:
    """An access token for our API, valid for a quarter of an hour."""
    return tokens.mint_access(account.user_id, "BUYER", account.session_id)


def twin_token(key: OKPKey, account: Account) -> str:
    """An access token for the twin, valid as long as ours."""
    return mint(key, account.user_id, ACCESS_LIFETIME)
