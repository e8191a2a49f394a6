"""A hot item: far more buyers than units, all at once, at two API processes. All units are sold,
and no more."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp
import httpx
import pytest

from commands.caller import SYSTEM
from runtime.settings import Settings
from runtime.wiring.core import Core, open_core
from tests.support.processes.instance import START_SECONDS, VISA, Instance, eventually, running
from tests.support.servers import shared
from tests.support.servers.shared import free_port

BUYERS, UNITS, CLIENTS = 1000, 100, 8
PATIENT = {"LUDOTECA_PAYMENT_TIMEOUT_SECONDS": "20", "LUDOTECA_PAYMENT_RETRY_SECONDS": "0.5,1,2,4"}
"""No payment may fail because the machine is busy: its units would become available again."""

ADDRESS = {
    "name": "Ann",
    "line1": "1 High Street",
    "city": "Lyon",
    "postal_code": "69001",
    "country": "FR",
}
CHECKOUT = {"payment_method": {"type": "card", "token": VISA}, "shipping_address": ADDRESS}


@pytest.fixture(scope="module")
def shop(
    postgres_url: str, postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    database = shared.create_database(postgres_url, template=postgres_template)
    with running(tmp_path_factory.mktemp("home"), database, PATIENT) as instance:
        yield instance
    shared.drop_database(database)


@pytest.fixture(scope="module")
def second_api(shop: Instance) -> Iterator[str]:
    with _another_api(shop) as base:
        yield base


@contextmanager
def _another_api(shop: Instance) -> Iterator[str]:
    port = free_port()
    environment = {**shop.environment, "LUDOTECA_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-m", "runtime.cli", "api"], env=environment)
    base = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _answers(base), patience=START_SECONDS)
        yield base
    finally:
        process.terminate()
        process.wait(20)


def _answers(base: str) -> bool:
    try:
        return httpx.get(f"{base}/health/live", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def tokens(shop: Instance) -> list[str]:
    return asyncio.run(_registered(shop.home, shop.environment["LUDOTECA_DATABASE_URL"]))


async def _registered(home: Path, url: str) -> list[str]:
    """Access tokens of all buyers. They have no password: hashing a thousand would take minutes."""
    async with open_core(Settings(home=home, database_url=url)) as core:
        return list(await asyncio.gather(*(_buyer(core) for _ in range(BUYERS))))


async def _buyer(core: Core) -> str:
    made = await core.commands.accounts.register(
        SYSTEM, email=f"{uuid4().hex}@example.com", password=None, name="A"
    )
    login = await core.commands.logins.open(made.value)
    return core.tokens.mint_access(made.value.user_id, "BUYER", login.session_id)


@pytest.mark.soak
@pytest.mark.parametrize("_", range(5))
def test_a_hundred_units_are_sold_to_a_hundred_of_a_thousand_buyers(
    shop: Instance, second_api: str, tokens: list[str], _: int
) -> None:
    game = shop.stocked(UNITS)
    answers = asyncio.run(_rush([shop.base, second_api], tokens, game))
    assert answers == {
        (201, ""): UNITS,
        (409, "insufficient_stock"): BUYERS - UNITS,
        "ordered": UNITS,
    }

    eventually(lambda: shop.stock(game), lambda left: left == (0, 0, 0, 0))


async def _rush(bases: list[str], tokens: list[str], game: str) -> Counter[object]:
    """Eight clients, each with one connection, serve the buyers in turn; returns the answers."""
    answers: Counter[object] = Counter()
    queue = iter(tokens)

    async def client(http: aiohttp.ClientSession) -> None:
        for token in queue:
            headers = {"Authorization": f"Bearer {token}", "Prefer": "respond-async"}
            item = {"product_id": game, "quantity": 1}
            async with http.post("/api/v1/cart/items", json=item, headers=headers) as answer:
                code = (await answer.json()).get("code", "")
                answers[answer.status, code] += 1
            if code:
                continue
            async with http.post("/api/v1/cart/checkout", json=CHECKOUT, headers=headers) as answer:
                assert answer.status == 202, await answer.text()
                answers["ordered"] += 1

    sessions = [aiohttp.ClientSession(bases[n % len(bases)]) for n in range(CLIENTS)]
    try:
        await asyncio.gather(*map(client, sessions))
    finally:
        for session in sessions:
            await session.close()
    return answers
