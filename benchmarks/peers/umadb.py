"""UmaDB (https://umadb.io): its server beside ours, called by its own client in threads; an append
with the condition that its stream has nothing newer than the caller's last event."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import umadb

from benchmarks.callers import append_in_threads
from benchmarks.events import PAYLOAD, FundsAdded
from benchmarks.measuring import Sample

START_SECONDS = 20.0


def append(seconds: float, callers: int) -> Sample:
    """Appends of one event by threads at once, a client each."""
    with _server() as url:
        return append_in_threads([_appending(umadb.Client(url)) for _ in range(callers)], seconds)


def _appending(client: umadb.Client) -> Callable[[UUID, int], object]:
    last: int | None = None

    def call(stream_id: UUID, version: int) -> object:
        nonlocal last
        tag = str(stream_id)
        condition = umadb.AppendCondition(
            umadb.Query([umadb.QueryItem(tags=[tag])]), None if version == 1 else last
        )
        last = client.append([umadb.Event(FundsAdded.NAME, PAYLOAD, [tag])], condition)
        return last

    return call


@contextmanager
def _server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ludoteca-bench-") as home:
        process = subprocess.Popen(
            [
                sys.executable, "-c", "from umadb.umadb_server_cli import main; main()",
                "--listen", f"127.0.0.1:{port}", "--db-path", f"{home}/uma.db",
            ],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("UmaDB's server did not start")
