"""Profiles a process under load: `python -m benchmarks.http --profile ENDPOINT`."""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import server
from benchmarks.http import profiling
from benchmarks.http.benchmark import games_option
from benchmarks.http.endpoints import ENDPOINTS
from benchmarks.http.processes import API, OURS
from benchmarks.http.shop import Shop
from benchmarks.http.sides import Side, open_shops
from benchmarks.http.wrk import Failed
from deploy.servers.common import Missing

MOST = 20


def main() -> None:
    """Fill a shop, and profile one of its processes for each endpoint in turn."""
    options = _options()
    with (
        server.running() as running,
        TemporaryDirectory(prefix="ludoteca-http-") as home,
        open_shops(running, Path(home), options.games, print) as shops,
        shops.twin() if options.twin else shops.ours() as side,
    ):
        _profile(side, shops.data, options)


def _profile(side: Side, data: Shop, options: argparse.Namespace) -> None:
    pid = side.serving.pids[options.process][0]
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.profile:
        endpoint = ENDPOINTS[name]
        path = options.folder / f"{'twin-' if options.twin else ''}{name}-{options.process}.txt"
        side.ask(endpoint, data, options.connections, 1)  # warm
        with profiling.recording(pid, path):
            sample = side.ask(endpoint, data, options.connections, options.seconds)
        profile = profiling.read(path)
        cpu = ", ".join(f"{part} {ms:.2f}" for part, ms in sample.cpu_ms.items())
        print(f"## {endpoint.name}: {options.process}\n")
        print(f"{sample.rate:,.0f} requests/s; CPU ms each: {cpu}; {profile.samples} samples\n")
        print(profiling.markdown(profile, MOST))
        print(f"all stacks (for flamegraph.pl or speedscope.app): {path}\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http", description=__doc__)
    parser.add_argument("--profile", nargs="+", choices=ENDPOINTS, required=True)
    parser.add_argument("--process", choices=OURS, default=API, help="which (API)")
    parser.add_argument("--twin", action="store_true", help="the twin instead of ours")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, default=Path("profiles"), help="for the stacks")
    games_option(parser)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except (Missing, Failed) as error:
        sys.exit(str(error))
