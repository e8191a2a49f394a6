"""Emmett's event store over PostgreSQL (https://event-driven-io.github.io/emmett/): coroutines of
one Node.js process, a connection each, an append with the expected version of its stream."""

import os
import subprocess
from pathlib import Path

import msgspec

from benchmarks.callers import WARM_UP_SECONDS
from benchmarks.events import SOME
from benchmarks.measuring import Sample
from benchmarks.peers.npm import node_modules, node_program
from benchmarks.server import Server

SCRIPT = Path(__file__).with_name("emmett.mjs")


def append(server: Server, seconds: float, callers: int) -> Sample:
    """Appends of one event by callers at once. Raises Missing, CalledProcessError."""
    with server.fresh("template0") as url:
        said = subprocess.run(
            [
                node_program(), SCRIPT, url, str(callers), str(seconds),
                str(WARM_UP_SECONDS), msgspec.json.encode(SOME),
            ],
            env={**os.environ, "PEERS": str(node_modules())},
            stdout=subprocess.PIPE,
            check=True,
        )  # fmt: skip
    latencies = [ms / 1000 for ms in msgspec.json.decode(said.stdout, type=list[float])]
    return Sample(len(latencies), seconds, latencies)
