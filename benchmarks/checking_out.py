"""Measures how many buyers per second order the same item over HTTP: into the cart, then checkout.

All clients want one item with ample stock; each has one connection, and sends its next request as
soon as it is answered. A client buys in turn for several buyers, as each may hold only some units.
Ours is the public API: reservations, cart, order, payment and shipments in two appends. The peer is
the same shopping with `SELECT … FOR UPDATE` in the same process behind the same FastAPI: see
`benchmarks.shopfront`.
"""

import asyncio
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

import aiohttp
import msgspec
import psycopg
import uvloop

from benchmarks import shopfront
from benchmarks.measuring import Aim, Case, Log, Sample, Table, line, take_turns
from benchmarks.server import Server, free_port
from commands.caller import SYSTEM, Caller
from domain.catalog import Listing, Price
from kit.uuid7 import uuid7
from projections.engine.runner import Runner
from projections.registry import read_models
from runtime.settings import Settings
from runtime.wiring.codec import codec
from runtime.wiring.core import Core, open_core

CLIENTS = (8, 64, 256)
BUYERS, UNITS_EACH = 2_048, 8
"""Fewer units than a buyer may hold, and enough buyers for all clients together."""
WARM_UP_SECONDS = 3.0
"""Clients arrive one after another within this time, which does not count."""
PLENTY = 1_000_000
PATIENCE_SECONDS = 60

ADDRESS = {
    "name": "Ann",
    "line1": "1 High Street",
    "city": "Lyon",
    "postal_code": "69001",
    "country": "FR",
}
CHECKOUT = {
    "payment_method": {"type": "card", "token": "pm_card_visa"},
    "shipping_address": ADDRESS,
}
_LIVE = "SELECT count(*) FROM consumers.feeds WHERE active"
OURS, PLAIN = "/api/v1", "/plain"


class Market(msgspec.Struct, frozen=True):
    """The URL of the shop, the item, and the buyers' access tokens."""

    base: str
    product_id: UUID
    tokens: Sequence[str]


def benchmark(server: Server, *, seconds: float, rounds: int, log: Log) -> Table:
    """Buyers at our API, and buyers at the plain SQL one."""
    server.template("market", _create_tables, of="ours")
    cases = [Case(f"checkout, {n}", partial(_run, server, OURS, n, seconds)) for n in CLIENTS]
    cases += [Case(f"FOR UPDATE, {n}", partial(_run, server, PLAIN, n, seconds)) for n in CLIENTS]
    aims = [Aim(f"checkout, {n}", f"FOR UPDATE, {n}", at_least=1) for n in CLIENTS]
    samples = take_turns(cases, rounds, log)
    lines = [line(case.name, samples, aims, unit="checkouts/s") for case in cases]
    return Table("Checkouts of one hot item over HTTP, by clients at once", lines)


def _run(server: Server, shop: str, clients: int, seconds: float) -> Sample:
    with (
        server.fresh("market") as url,
        TemporaryDirectory() as home,
        _open(url, Path(home)) as market,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_shop(market, shop, clients, seconds))


@contextmanager
def _open(url: str, home: Path) -> Iterator[Market]:
    """A market with one item, served by a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.shopfront", url, str(home), str(port)]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        product_id, tokens = runner.run(_stock_up(url, home))
    process = subprocess.Popen(command)
    try:
        yield Market(f"http://127.0.0.1:{port}", product_id, tokens)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _create_tables(url: str) -> None:
    """Create the plain shop's tables, and those of our read models in which every request looks up
    whether its caller's account is still open."""
    shopfront.create_tables(url)
    models = read_models()
    runner = Runner(url, codec(), models)
    projector = threading.Thread(target=runner.run)
    projector.start()
    deadline = time.monotonic() + PATIENCE_SECONDS
    with psycopg.connect(url, autocommit=True) as conn:
        while conn.execute(_LIVE).fetchone() != (len(models),):
            assert time.monotonic() < deadline, "the read models' tables do not come"
            time.sleep(0.1)
    runner.stop()
    projector.join()


async def _stock_up(url: str, home: Path) -> tuple[UUID, list[str]]:
    """Create the item in both shops, and the buyers' tokens."""
    async with open_core(Settings(home=home, database_url=url)) as core:
        seller = Caller("benchmark", uuid7(), "ADMIN")
        listing = Listing(
            sku="HOT-1", title="Hot item", kind="PHYSICAL", prices=(Price("*", 1999, "USD"),)
        )
        product_id = (await core.commands.catalog.create(seller, listing, "ACTIVE")).value
        await core.commands.inventory.set_total(seller, product_id, PLENTY)
        async with core.log.pool.connection() as conn:
            await conn.execute(
                "INSERT INTO plain.stock VALUES (%s, %s, 'Hot item', 1999, %s)",
                (product_id, seller.user_id, PLENTY),
            )
        opened = await asyncio.gather(*(open_account(core) for _ in range(BUYERS)))
        return product_id, [token for _, token in opened]


async def open_account(core: Core) -> tuple[UUID, str]:
    """A new buyer's id and access token."""
    made = await core.commands.accounts.register(
        SYSTEM, email=f"{uuid4().hex}@example.com", password=None, name="A"
    )
    login = await core.commands.logins.open(made.value)
    user_id = made.value.user_id
    return user_id, core.tokens.mint_access(user_id, "BUYER", login.session_id)


async def _shop(market: Market, shop: str, clients: int, seconds: float) -> Sample:
    async with aiohttp.ClientSession(market.base, connector=aiohttp.TCPConnector(limit=0)) as http:
        await until_answering(http)
        begin = time.perf_counter() + WARM_UP_SECONDS
        end = begin + seconds
        latencies: list[float] = []

        async def client(number: int) -> None:
            await asyncio.sleep(WARM_UP_SECONDS * number / clients)
            tokens = market.tokens[number::clients]
            buyers = itertools.cycle(token for token in tokens for _ in range(UNITS_EACH))
            while (started := time.perf_counter()) < end:
                await _buy(http, shop, next(buyers), market.product_id)
                now = time.perf_counter()
                if begin <= now <= end:
                    latencies.append(now - started)

        await asyncio.gather(*map(client, range(clients)))
        return Sample(len(latencies), seconds, latencies)


async def until_answering(http: aiohttp.ClientSession) -> None:
    """Wait until an API process answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            async with http.get("/health/live") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        assert time.monotonic() < deadline, "the shop does not open"
        await asyncio.sleep(0.1)


async def _buy(http: aiohttp.ClientSession, shop: str, token: str, product_id: UUID) -> None:
    """Put one item into the cart, and check out."""
    item = {"product_id": str(product_id), "quantity": 1}
    await _post(http, f"{shop}/cart/items", token, item)
    await _post(http, f"{shop}/cart/checkout", token, CHECKOUT)


async def _post(
    http: aiohttp.ClientSession, path: str, token: str, body: Mapping[str, object]
) -> None:
    """Post until it is done. A shop that has more to do than it can answers 503, and when to come
    again."""
    headers = {"Authorization": f"Bearer {token}", "Prefer": "respond-async"}
    while True:
        async with http.post(path, json=body, headers=headers) as answer:
            assert answer.status in {201, 202, 503}, await answer.text()
            await answer.read()
            if answer.status != 503:
                return
        await asyncio.sleep(float(answer.headers["Retry-After"]))
