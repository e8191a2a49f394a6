"""Measures how many transfers between wallets per second concurrent clients carry out.

Ours goes through the public calls `TransactionCommands.transfer` and `when_ready`: one append of
five events, with all its guarantees. The peer updates the same balances in one PostgreSQL
transaction of two UPDATEs and an INSERT: no history, no events, no notifications. Each client has a
pair of wallets; in the case with a hot wallet, all take from the same one.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID, uuid4

import psycopg
import uvloop

from benchmarks.measuring import Aim, Case, Log, Sample, Table, line, take_turns
from benchmarks.server import Server
from commands.caller import SYSTEM, Caller
from kit.uuid7 import uuid7
from runtime.settings import Settings
from runtime.wiring.core import open_core

CLIENTS = (1, 8, 64)
WARM_UP_SECONDS = 0.5
PLENTY = 10_000_000

PLAIN_TABLES = """
CREATE TABLE wallets (id uuid PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0));
CREATE TABLE transfers (id uuid PRIMARY KEY, source uuid NOT NULL, target uuid
    NOT NULL, amount bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now());
"""
PLAIN_TRANSFER = (
    "UPDATE wallets SET balance = balance - 1 WHERE id = %(source)s AND balance >= 1",
    "UPDATE wallets SET balance = balance + 1 WHERE id = %(target)s",
    "INSERT INTO transfers (id, source, target, amount) VALUES (%(id)s, %(source)s, %(target)s, 1)",
)

Transfer = Callable[[], Awaitable[object]]


def benchmark(server: Server, *, seconds: float, rounds: int, log: Log) -> Table:
    """Clients of our commands, and connections that use plain SQL."""
    server.template("plain_wallets", _create_plain_tables)
    cases = [Case(f"transfer, {n}", partial(_ours, server, n, seconds)) for n in CLIENTS]
    cases.append(Case("transfer, 64, hot wallet", partial(_ours, server, 64, seconds, hot=True)))
    cases += [Case(f"SQL, {n}", partial(_plain, server, n, seconds)) for n in CLIENTS]
    cases.append(Case("SQL, 64, hot wallet", partial(_plain, server, 64, seconds, hot=True)))
    aims = [
        Aim(case.name, case.name.replace("transfer", "SQL")) for case in cases[: len(CLIENTS) + 1]
    ]
    samples = take_turns(cases, rounds, log)
    lines = [line(case.name, samples, aims, unit="transfers/s") for case in cases]
    return Table("Transfers between wallets, by clients at once", lines)


async def _call(transfers: list[Transfer], seconds: float) -> Sample:
    begin = time.perf_counter() + WARM_UP_SECONDS
    end = begin + seconds
    latencies: list[float] = []

    async def client(transfer: Transfer) -> None:
        while (started := time.perf_counter()) < end:
            await transfer()
            now = time.perf_counter()
            if started >= begin and now <= end:
                latencies.append(now - started)

    await asyncio.gather(*map(client, transfers))
    return Sample(len(latencies), seconds, latencies)


def _run(main: Coroutine[None, None, Sample]) -> Sample:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _ours(server: Server, clients: int, seconds: float, *, hot: bool = False) -> Sample:
    async def main(url: str, home: Path) -> Sample:
        async with open_core(Settings(home=home, database_url=url)) as core:
            admin = Caller("benchmark", uuid7(), "ADMIN")

            async def person() -> tuple[Caller, UUID]:
                email = f"{uuid4().hex}@example.com"
                made = await core.commands.accounts.register(
                    SYSTEM, email=email, password=None, name="A"
                )
                caller = Caller(f"user:{made.value.user_id}", made.value.user_id, "BUYER")
                wallet = (await core.commands.wallets.create(caller, "USD")).value
                await core.commands.wallets.add_funds(admin, wallet, PLENTY, "benchmark")
                return caller, wallet

            async def transfer(caller: Caller, source: UUID, target: UUID) -> None:
                landed = await core.commands.transactions.transfer(caller, source, target, 1, "USD")
                found = await core.commands.transactions.when_ready(landed.value, 60)
                assert found.transaction.status == "COMPLETED"

            payers = [await person() for _ in range(1 if hot else clients)]
            targets = [(await person())[1] for _ in range(clients)]
            pairs = zip(itertools.cycle(payers), targets, strict=False)
            return await _call(
                [partial(transfer, *payer, target) for payer, target in pairs], seconds
            )

    with server.fresh("ours") as url, TemporaryDirectory() as home:
        return _run(main(url, Path(home)))


def _plain(server: Server, clients: int, seconds: float, *, hot: bool = False) -> Sample:
    async def main(url: str) -> Sample:
        async with AsyncExitStack() as stack:
            conns = [
                await stack.enter_async_context(await psycopg.AsyncConnection.connect(url))
                for _ in range(clients)
            ]
            wallets = [uuid4() for _ in range(2 * clients)]
            for wallet in wallets:
                await conns[0].execute("INSERT INTO wallets VALUES (%s, %s)", (wallet, PLENTY))
            await conns[0].commit()

            async def transfer(conn: psycopg.AsyncConnection, source: UUID, target: UUID) -> None:
                values = {"id": uuid4(), "source": source, "target": target}
                async with conn.transaction():
                    for statement in PLAIN_TRANSFER:
                        changed = await conn.execute(statement, values, prepare=True)
                        assert changed.rowcount == 1

            sources = itertools.cycle(wallets[:1]) if hot else wallets[:clients]
            pairs = zip(conns, sources, wallets[clients:], strict=False)
            return await _call([partial(transfer, *pair) for pair in pairs], seconds)

    with server.fresh("plain_wallets") as url:
        return _run(main(url))


def _create_plain_tables(url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute(PLAIN_TABLES)
