"""The tables: each endpoint on both sides, the floor, and the cost of a whole purchase."""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.http import processes
from benchmarks.http.cpu import spent, used, with_cpu
from benchmarks.http.endpoints import ENDPOINTS, Endpoint
from benchmarks.http.processes import API, Serving
from benchmarks.http.shop import Shop
from benchmarks.http.sides import Side, open_shops
from benchmarks.http.wrk import Request, drive
from benchmarks.measuring import Aim, Case, Line, Log, Ratio, Sample, Table, line, p99, take_turns
from benchmarks.server import Server
from deploy.servers.wrk import wrk_program

CONNECTIONS = (1, 8, 64)
PROCESSES = (1,)
PURCHASE_MS = 8.0
"""The aim for a whole purchase: CPU of all processes."""

FLOOR = ("FastAPI", "Starlette")


class Options(msgspec.Struct, frozen=True):
    """Which endpoints to measure, over how many connections, and with how many API processes;
    `games` is a file to load."""

    endpoints: Sequence[str] = tuple(ENDPOINTS)
    connections: Sequence[int] = CONNECTIONS
    processes: Sequence[int] = PROCESSES
    games: Path | None = None


def games_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option for the file of games to a command."""
    parser.add_argument(
        "--games",
        type=Path,
        metavar="FILE",
        default=os.environ.get("BENCH_GAMES"),
        help="the games to load, else BENCH_GAMES, else the sample, repeated",
    )


def benchmark(
    server: Server, options: Options, *, seconds: float, rounds: int, log: Log
) -> list[Table]:
    """A table per endpoint. Raises Missing without wrk, Failed when an answer is an error."""
    wrk_program()
    tables = []
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="ludoteca-http-")))
        shops = stack.enter_context(open_shops(server, home, options.games, log))
        for processes in options.processes:
            log(f"API processes: {processes}")
            with shops.ours(processes) as ours, shops.twin(processes) as twin:
                sides = {"ours": ours, "twin": twin}
                for name in options.endpoints:
                    ask = partial(_ask, sides, ENDPOINTS[name], shops.data, options, seconds)
                    tables += ask(processes, rounds, log)
        tables.append(_floor(home, options.connections, seconds, rounds, log))
    return tables


def _ask(
    sides: Mapping[str, Side],
    endpoint: Endpoint,
    data: Shop,
    options: Options,
    seconds: float,
    processes: int,
    rounds: int,
    log: Log,
) -> list[Table]:
    """The tables of one endpoint, with this many API processes of each side."""
    cases = [
        Case(f"{name}, {n}", partial(side.ask, endpoint, data, n, seconds))
        for n in options.connections
        for name, side in sides.items()
    ]
    log(endpoint.name)
    samples = take_turns(cases, rounds, log)
    tables = [_table(endpoint, options.connections, samples)]
    if endpoint is ENDPOINTS["place"]:
        tables.append(_purchases(options.connections, samples))
    several = f", {processes} API processes" if processes > 1 else ""
    return [msgspec.structs.replace(table, title=f"{table.title}{several}") for table in tables]


def _table(
    endpoint: Endpoint, connections: Sequence[int], samples: dict[str, list[Sample]]
) -> Table:
    lines = [
        _beside_twin(n, samples, at_most=1.0 if endpoint.is_command else 0.8) for n in connections
    ]
    lines += [line(f"twin, {n}", samples, unit="requests/s") for n in connections]
    return Table(endpoint.name, lines)


def _beside_twin(n: int, samples: dict[str, list[Sample]], *, at_most: float) -> Line:
    """Our figures relative to the twin's: requests/s, p99 and CPU of the API's process; and,
    without an aim, CPU of all processes."""
    ours, twin = f"ours, {n}", f"twin, {n}"
    compared: list[tuple[str, Callable[[Sample], float], Aim]] = [
        ("p99", p99, Aim(ours, twin, at_most=1.0)),
        ("API's CPU", _api_cpu, Aim(ours, twin, at_most=at_most)),
        ("CPU in all", _cpu, Aim(ours, twin)),
    ]
    rated = line(ours, samples, [Aim(ours, twin, at_least=1.0)], unit="requests/s")
    ratios = [
        msgspec.structs.replace(ratio, peer=f"its {what}")
        for what, figure, aim in compared
        for ratio in line(ours, samples, [aim], figure=figure, unit="").ratios
    ]
    return msgspec.structs.replace(rated, ratios=[*rated.ratios, *ratios])


def _api_cpu(sample: Sample) -> float:
    return sample.cpu_ms[API]


def _cpu(sample: Sample) -> float:
    return sum(sample.cpu_ms.values())


def _purchases(connections: Sequence[int], samples: dict[str, list[Sample]]) -> Table:
    """The cost of POST /orders, until the order is paid, the game is in the library, and all read
    models are up to date."""
    lines = []
    for n in connections:
        each = line(f"ours, {n}", samples, figure=_cpu, unit="ms of CPU")
        reached = each.figure <= PURCHASE_MS
        aim = Ratio(f"{PURCHASE_MS:g} ms", each.figure / PURCHASE_MS, "≤ 1", reached)
        lines.append(
            msgspec.structs.replace(each, p50_ms=None, p99_ms=None, p999_ms=None, ratios=[aim])
        )
    return Table("A whole purchase, all processes", lines)


def _floor(home: Path, connections: Sequence[int], seconds: float, rounds: int, log: Log) -> Table:
    """FastAPI and Starlette, answering a dictionary."""
    with ExitStack() as stack:
        cases = []
        for kind in FLOOR:
            module = processes.module("benchmarks.http.floor", kind, home=home)
            hello = partial(_hello, stack.enter_context(module), seconds)
            cases += [Case(f"{kind}, {n}", partial(hello, n)) for n in connections]
        samples = take_turns(cases, rounds, log)
    lines = [line(case.name, samples, unit="requests/s") for case in cases]
    return Table("The floor: one route that answers a dictionary", lines)


def _hello(serving: Serving, seconds: float, connections: int) -> Sample:
    before = used(serving.pids)
    sample = drive(
        serving.base, [Request("GET", "/")], [], connections=connections, seconds=seconds
    )
    cpu = spent(before, used(serving.pids))
    return with_cpu(sample, cpu, sample.count)
