"""`python -m benchmarks`: starts a server, runs the benchmarks, prints their tables."""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from benchmarks import (
    appending,
    checking_out,
    folding,
    indexing,
    lag,
    own_writes,
    report,
    server,
    transferring,
)
from benchmarks.http import benchmark as http
from benchmarks.http.endpoints import ENDPOINTS
from benchmarks.http.wrk import Failed
from benchmarks.measuring import Table
from benchmarks.pages import benchmark as pages
from benchmarks.scale import benchmark as scale
from deploy.servers.common import Missing

PARTS = (
    "append", "fold", "index", "lag", "transfer", "checkout", "http", "own-writes",
    "pages", "scale",
)  # fmt: skip


def main() -> None:
    """Run the chosen benchmarks and print the report."""
    options = _options()
    logging.basicConfig(level=logging.WARNING)
    rounds = options.rounds or (1 if options.quick else 5)
    seconds = 1.0 if options.quick else 3.0
    http_options = http.Options(
        endpoints=options.endpoints,
        connections=options.connections,
        processes=options.processes,
        games=options.games,
    )
    with server.running() as running:
        parts: Mapping[str, Callable[[], Sequence[Table]]] = {
            "append": lambda: appending.benchmark(
                running, seconds=seconds, rounds=rounds, log=_progress
            ),
            "fold": lambda: [
                folding.benchmark(running, seconds=2 * seconds, rounds=rounds, log=_progress)
            ],
            "index": lambda: indexing.benchmark(
                running, options.games, rounds=rounds, log=_progress
            ),
            "lag": lambda: [
                lag.benchmark(running, seconds=3 * seconds, rounds=rounds, log=_progress)
            ],
            "transfer": lambda: [
                transferring.benchmark(running, seconds=seconds, rounds=rounds, log=_progress)
            ],
            "checkout": lambda: [
                checking_out.benchmark(running, seconds=2 * seconds, rounds=rounds, log=_progress)
            ],
            "http": lambda: http.benchmark(
                running,
                http_options,
                seconds=options.seconds or seconds,
                rounds=rounds,
                log=_progress,
            ),
            "scale": lambda: scale.benchmark(
                running, options.events, seconds=seconds, log=_progress
            ),
            "own-writes": lambda: [
                own_writes.benchmark(running, seconds=3 * seconds, rounds=rounds, log=_progress)
            ],
            "pages": lambda: pages.benchmark(running, rounds=rounds, log=_progress),
        }
        machine = report.machine(running.settings())
        tables, failures = measure({name: parts[name] for name in options.only or parts})
    found = report.Report(machine, rounds, [table for part in tables.values() for table in part])
    report.show(found)
    if options.json:
        options.json.write_bytes(report.json(found))
    if options.markdown:
        _fill(options.markdown, found, tables)
    if failures:
        sys.exit("\n".join(failures))


def measure(
    parts: Mapping[str, Callable[[], Sequence[Table]]],
) -> tuple[dict[str, Sequence[Table]], list[str]]:
    """Run the benchmarks one after another. One that fails costs its own tables only, as the
    others take long: returns the tables by name, and why the rest have none."""
    tables: dict[str, Sequence[Table]] = {}
    failures: list[str] = []
    for name, part in parts.items():
        try:
            tables[name] = part()
        except (Missing, Failed) as error:
            failures.append(f"{name}: {error}")
            _progress(failures[-1])
    return tables, failures


def _fill(path: Path, found: report.Report, tables: Mapping[str, Sequence[Table]]) -> None:
    """Replace the figures of the benchmarks that ran; those of `http` have a section of their
    own."""
    others = [table for name, part in tables.items() if name != "http" for table in part]
    for name, some in (("figures", others), ("http", tables.get("http"))):
        if some:
            report.fill(path, msgspec.structs.replace(found, tables=some), name)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="one short round: whether it works, not how fast it is"
    )
    parser.add_argument("--rounds", type=int, help="rounds whose median is reported (5)")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="leave out the others")
    parser.add_argument(
        "--events", nargs="+", type=int, default=scale.SIZES, help="sizes of the logs of `scale`"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure to a file")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="replace the figures in a document"
    )
    group = parser.add_argument_group("http")
    group.add_argument(
        "--endpoints", nargs="+", choices=ENDPOINTS, default=list(ENDPOINTS), help="some of them"
    )
    group.add_argument(
        "--connections", nargs="+", type=int, default=http.CONNECTIONS, help="at once (1 8 64)"
    )
    group.add_argument(
        "--processes", nargs="+", type=int, default=http.PROCESSES, help="how many of each API (1)"
    )
    group.add_argument("--seconds", type=float, help="how long each figure is measured (3)")
    http.games_option(group)
    return parser.parse_args()


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main()
    except (Missing, Failed) as error:
        sys.exit(str(error))
