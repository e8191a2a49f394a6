"""Measures how much longer a query takes that waits for its caller's own writes.

Two API processes, a projector and a worker. Buyers write at one API process and immediately query
one of the two: their cart after a change, or their library after an order paid by wallet. The peer
is the same query by the same person without a write since the last one.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import aiohttp
import msgspec
import uvloop

from benchmarks.checking_out import PATIENCE_SECONDS, open_account, until_answering
from benchmarks.measuring import Case, Log, Sample, Table, line, p99, take_turns
from benchmarks.server import Server, free_port
from commands.caller import Caller
from domain.catalog import Listing, Price
from kit.uuid7 import uuid7
from runtime.settings import Settings
from runtime.wiring.core import open_core

BUYERS = 8
"""Concurrent buyers, each with one connection to each process."""

GAMES_PER_SECOND = 3
"""Orders per second of the run and buyer."""

QUIET, HERE, ELSEWHERE = "nothing written", "written here", "written elsewhere"


class Shop(msgspec.Struct, frozen=True):
    """The URLs of the shop, its products, and the buyers' access tokens."""

    bases: tuple[str, str]
    product_id: UUID
    games: Sequence[UUID]
    tokens: Sequence[str]


def benchmark(server: Server, *, seconds: float, rounds: int, log: Log) -> Table:
    """Queries right after a write of their caller, and queries of a caller who wrote nothing."""
    samples: dict[str, list[Sample]] = defaultdict(list)

    def run(clients: int) -> Sample:
        for name, latencies in _run(server, clients, seconds).items():
            samples[name].append(Sample(len(latencies), seconds, latencies))
        return samples[name][-1]

    take_turns([Case(f"{n} at once", partial(run, n)) for n in (1, BUYERS)], rounds, log)
    return Table(
        "A query after a write of its caller, by callers at once",
        [line(name, samples, figure=p99, unit="ms at p99") for name in sorted(samples)],
    )


def _run(server: Server, clients: int, seconds: float) -> dict[str, list[float]]:
    with (
        server.fresh("ours") as url,
        TemporaryDirectory() as home,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        games = int(GAMES_PER_SECOND * seconds)
        with _processes(url, Path(home)) as bases:
            shop = runner.run(_stock_up(url, Path(home), bases, clients, games))
            return runner.run(_shop(shop, seconds))


@contextmanager
def _processes(url: str, home: Path) -> Iterator[tuple[str, str]]:
    """The program's processes; yields the URLs of the two APIs."""
    provider, first, second = (free_port() for _ in range(3))
    environment = {
        **os.environ,
        "LUDOTECA_HOME": str(home),
        "LUDOTECA_DATABASE_URL": url,
        "LUDOTECA_PROVIDER_PORT": str(provider),
        "LUDOTECA_RATE_LIMIT": "off",
    }
    command = [sys.executable, "-m", "runtime.cli"]
    running = [
        subprocess.Popen(
            [*command, kind],
            env={**environment, "LUDOTECA_PORT": str(port)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for kind, port in (("projector", 1), ("worker", 1), ("api", first), ("api", second))
    ]
    try:
        yield f"http://127.0.0.1:{first}", f"http://127.0.0.1:{second}"
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(PATIENCE_SECONDS)


async def _stock_up(url: str, home: Path, bases: tuple[str, str], buyers: int, games: int) -> Shop:
    """Create a product with ample stock, games, and buyers with money."""
    seller, price = Caller("benchmark", uuid7(), "ADMIN"), (Price("*", 100, "USD"),)
    async with open_core(Settings(home=home, database_url=url)) as core:
        commands = core.commands

        async def listed(title: str, kind: Any) -> UUID:
            listing = Listing(sku=title, title=title, kind=kind, prices=price)
            return (await commands.catalog.create(seller, listing, "ACTIVE")).value

        product_id = await listed("Chess", "PHYSICAL")
        await commands.inventory.set_total(seller, product_id, 1_000_000)
        tokens = []
        for _ in range(buyers):
            user_id, token = await open_account(core)
            wallet = await commands.wallets.create(Caller("benchmark", user_id, "BUYER"), "USD")
            await commands.wallets.add_funds(seller, wallet.value, 100 * games, "for a benchmark")
            tokens.append(token)
        ids = [await listed(f"Game {n}", "DIGITAL") for n in range(games)]
        return Shop(bases, product_id, ids, tokens)


async def _shop(shop: Shop, seconds: float) -> dict[str, list[float]]:
    found: dict[str, list[float]] = defaultdict(list)
    connector = partial(aiohttp.TCPConnector, limit=0)
    async with (
        aiohttp.ClientSession(shop.bases[0], connector=connector()) as here,
        aiohttp.ClientSession(shop.bases[1], connector=connector()) as elsewhere,
    ):
        await until_answering(here)
        await until_answering(elsewhere)
        end = time.perf_counter() + seconds
        buyers = [_Buyer(here, elsewhere, token, found, len(shop.tokens)) for token in shop.tokens]
        await asyncio.gather(*[buyer.shop(shop, end) for buyer in buyers])
    return found


class _Buyer:
    """A client that records how long its queries take."""

    def __init__(
        self,
        here: aiohttp.ClientSession,
        elsewhere: aiohttp.ClientSession,
        token: str,
        found: dict[str, list[float]],
        clients: int,
    ) -> None:
        self._ways = {HERE: here, ELSEWHERE: elsewhere}
        self._headers = {"Authorization": f"Bearer {token}"}
        self._found = found
        self._clients = clients

    async def shop(self, shop: Shop, end: float) -> None:
        product = {"product_id": str(shop.product_id), "quantity": 1}
        cart = await self._write("POST", "/cart/items", product)
        item, games, n = f"/cart/items/{cart['items'][0]['id']}", iter(shop.games), 0
        while time.perf_counter() < end:
            n += 1
            for where in (HERE, ELSEWHERE):
                await self._write("PUT", item, {"quantity": 1 + n % 2})
                await self._ask("cart", where, wrote=True)
            await self._ask("cart", ELSEWHERE, wrote=False)
            if n % 3 == 1 and (game := next(games, None)) is not None:
                order = {"game_id": str(game), "payment_method": {"type": "wallet"}}
                assert (await self._write("POST", "/orders", order))["status"] == "COMPLETED"
                await self._ask("library", ELSEWHERE, wrote=True)
                await self._ask("library", ELSEWHERE, wrote=False)

    async def _write(self, method: str, path: str, body: Any) -> Any:
        async with self._ways[HERE].request(
            method, f"/api/v1{path}", json=body, headers=self._headers
        ) as answer:
            assert answer.status in {200, 201}, await answer.text()
            return await answer.json()

    async def _ask(self, what: str, where: str, *, wrote: bool) -> None:
        began = time.perf_counter()
        async with self._ways[where].get(f"/api/v1/{what}", headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()
        name = f"{what}, {where if wrote else QUIET}, {self._clients}"
        self._found[name].append(time.perf_counter() - began)
