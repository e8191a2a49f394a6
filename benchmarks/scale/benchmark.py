"""Measures how costs grow: append, load and one page of each query, over a short history and longer
ones. Each figure is set beside that of the shortest."""

import asyncio
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import process_time

import msgspec
import psycopg

from benchmarks.http.cpu import POSTGRES, spent, used
from benchmarks.measuring import Line, Log, Ratio, Table
from benchmarks.scale.archive import fill, write
from benchmarks.scale.costs import Cost, cost
from benchmarks.scale.history import History
from benchmarks.scale.queries import known, loads, pages
from benchmarks.server import Server, connect_as_program
from domain.wallets import FundsAdded
from eventstore.consumers import checkpoints
from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog
from kit.uuid7 import uuid7
from projections.engine.runner import Runner
from projections.registry import read_models
from runtime.wiring.codec import codec

SIZES = (10_000, 1_000_000)
"""Events of the histories; `--events` names others, such as 10,000,000, which takes an hour."""

CALLERS = (1, 64)
AIM = 1.2
"""What a longer history may cost at most, as a multiple of the shortest."""

_SOME = FundsAdded(100, "USD", 100, reason="benchmark")


class Costs(msgspec.Struct, frozen=True):
    """What things cost over one history: appends by the number of callers, in CPU milliseconds of
    this process and of the server; and what is asked for, by name."""

    appends: Mapping[int, Mapping[str, float]]
    asked: Mapping[str, Cost]


def benchmark(server: Server, sizes: Sequence[int], *, seconds: float, log: Log) -> list[Table]:
    """Make the histories, and measure over each."""
    found: dict[int, Costs] = {}
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="ludoteca-scale-") as folder:
        for size in sizes:
            url = stack.enter_context(server.fresh("ours"))
            archive = Path(folder) / "history.jsonl"
            write(archive, History(size), log)
            fill(url, archive, 2, lambda _what, _done, _all: None)
            archive.unlink()
            log(f"folding {size:,} events")
            _fold(url)
            found[size] = asyncio.run(_measured(server, url, seconds))
    return [_appends(found), _asked(found)]


def _fold(url: str) -> None:
    """Have a projector fold the whole log, and leave the tables as autovacuum would."""
    runner = Runner(url, codec(), read_models())
    thread = threading.Thread(target=runner.run)
    with connect_as_program(url) as conn:
        head, models = checkpoints.head(conn), {each.projection.name for each in read_models()}
        thread.start()
        while models - {
            row.projection
            for row in checkpoints.subscriptions(conn)
            if row.active and row.position >= head
        }:
            time.sleep(0.1)
    runner.stop()
    thread.join()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")


async def _measured(server: Server, url: str, seconds: float) -> Costs:
    async with PostgresLog.open(url, codec(), pool_size=4) as log:
        it = await known(log.pool)
        with connect_as_program(url) as conn:
            asks = {**loads(log, it), **pages(log, it)}
            asked = {name: await cost(conn, ask) for name, ask in asks.items()}
        return Costs(
            {count: await _append(server, log, count, seconds) for count in CALLERS}, asked
        )


async def _append(
    server: Server, log: PostgresLog, callers: int, seconds: float
) -> Mapping[str, float]:
    """CPU milliseconds of an append to a new stream."""
    count, until = 0, time.perf_counter() + seconds

    async def call() -> None:
        nonlocal count
        while time.perf_counter() < until:
            await log.append([StreamAppend(uuid7(), 0, [_SOME])])
            count += 1

    before, began = used({POSTGRES: [server.pid]}), process_time()
    await asyncio.gather(*(call() for _ in range(callers)))
    here, there = process_time() - began, spent(before, used({POSTGRES: [server.pid]}))
    return {"here": here / count * 1000, POSTGRES: there[POSTGRES] / count * 1000}


# -- tables ----------------------------------------------------------------------------------------


def _appends(found: Mapping[int, Costs]) -> Table:
    lines = []
    for callers in CALLERS:
        figures = {size: sum(costs.appends[callers].values()) for size, costs in found.items()}
        cpu = found[max(found)].appends[callers]
        lines.append(_line(f"append, {callers} callers", "CPU ms", figures, cpu))
    return Table("Appending to a log of so many events", lines)


def _asked(found: Mapping[int, Costs]) -> Table:
    shortest, longest = found[min(found)].asked, found[max(found)].asked
    lines = [
        _line(
            f"{name} ({shortest[name].buffers:,} → {longest[name].buffers:,} blocks)",
            "ms",
            {size: costs.asked[name].ms for size, costs in found.items()},
            {"here": longest[name].cpu_ms, POSTGRES: longest[name].server_ms},
        )
        for name in longest
    ]
    return Table("Loading and asking, over a log of so many events", lines)


def _line(case: str, unit: str, figures: Mapping[int, float], cpu_ms: Mapping[str, float]) -> Line:
    """The figure over the longest history, beside that of the shortest."""
    shortest, longest = min(figures), max(figures)
    ratio = figures[longest] / figures[shortest]
    beside = Ratio(f"{shortest:,} events", ratio, f"≤ {AIM}", ratio <= AIM)
    return Line(
        case,
        unit,
        figures[longest],
        min(figures.values()),
        max(figures.values()),
        ratios=[beside],
        cpu_ms=cpu_ms,
    )
