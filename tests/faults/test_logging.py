"""Nobody reads the program's log output: work continues, and lost lines are counted and
reported."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from adapters.text_log import FileTextLog
from runtime.output.log_stream import LogStream, add_to, counts
from tests.support.processes.instance import ADMIN, PASSWORD, Instance, eventually
from tests.support.processes.started import STOP_SECONDS, started
from tests.support.servers.kurrent import KurrentDouble
from tests.support.servers.shared import free_port

PATIENCE = 20.0
PIPE_BYTES = 64 * 1024
LINE = "x" * 99 + "\n"


class Pipe:
    """A pipe with a stream at one end; the test decides when the other end is read."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.counted = 0
        self.stream = LogStream(self.writing, queue_bytes=100_000, count_dropped=self._count)

    def _count(self, lines: int) -> bool:
        self.counted += lines
        return True

    def read_until(self, end: bytes) -> str:
        """All output until it contains this text."""
        found, deadline = b"", time.monotonic() + PATIENCE
        while end not in found:  # more may follow it
            assert time.monotonic() < deadline, found[-500:]
            if select.select([self.reading], [], [], 0.1)[0]:
                found += os.read(self.reading, 1 << 20)
        return found.decode()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.reading)


def within(seconds: float, work: object) -> None:
    """The block ends within this many seconds."""
    thread = threading.Thread(target=work, daemon=True)  # type: ignore[arg-type]
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits for a reader"


def kept_and_told(lines: list[str]) -> tuple[int, int]:
    """How many numbered lines arrived, and how many in all with those reported as dropped; checks
    that each gap is where it is reported."""
    kept, place = 0, 0
    for line in lines:
        if line.isdecimal():
            assert int(line) == place
            kept, place = kept + 1, place + 1
        else:
            assert line.endswith("lines were dropped here: nobody read them")
            place += int(line.split()[0])
    return kept, place


def test_a_writer_never_waits_and_learns_how_much_was_lost_and_where(pipe: Pipe) -> None:
    def write() -> None:
        for n in range(10_000):
            print(f"{n:099}", file=pipe.stream)

    within(PATIENCE, write)
    found, place = "", 0
    # one gap or two, depending on the threads; during the last one nothing is written
    while place < 10_000:
        found += pipe.read_until(b"\n")
        kept, place = kept_and_told(found[: found.rindex("\n")].splitlines())
    pipe.stream.write("and on it goes\n")
    found += pipe.read_until(b"goes\n")

    lines = found.splitlines()
    assert lines[-1] == "and on it goes"
    assert kept_and_told(lines[:-1]) == (kept, 10_000)
    assert kept * 100 > PIPE_BYTES
    assert len(lines) < kept + 10
    pipe.stream.drain()
    assert pipe.counted == 10_000 - kept > 0


def test_lines_stay_whole_and_in_order_also_of_many_threads(pipe: Pipe) -> None:
    def write(name: str) -> None:
        for n in range(200):
            pipe.stream.write(f"{name} {n}\n")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.stream.write("end\n")
    lines = pipe.read_until(b"end\n").splitlines()[:-1]
    for name in "abcd":
        assert [line for line in lines if line.startswith(name)] == [
            f"{name} {n}" for n in range(200)
        ]


def test_odd_text_is_no_error(pipe: Pipe) -> None:
    print("\udc80 é", file=pipe.stream)
    assert pipe.read_until(b"\n") == "\\udc80 é\n"


def test_the_end_of_a_process_waits_for_its_last_lines_but_not_long(pipe: Pipe) -> None:
    pipe.stream.write("last\n")
    pipe.stream.drain()
    assert os.read(pipe.reading, 100) == b"last\n"
    pipe.stream.write(LINE * (PIPE_BYTES // 100 + 10))
    began = time.monotonic()
    pipe.stream.drain(0.2)
    assert time.monotonic() - began < 5


def test_a_reader_that_is_gone_is_no_error(pipe: Pipe) -> None:
    os.close(pipe.reading)
    for _ in range(5_000):
        pipe.stream.write(LINE)
    within(PATIENCE, pipe.stream.drain)
    pipe.reading = os.open(os.devnull, os.O_RDONLY)


def test_a_full_disk_is_no_error_and_lines_flow_again_when_there_is_room(tmp_path: Path) -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    stream = LogStream(descriptor, queue_bytes=1_000)
    for n in range(100):
        stream.write(f"{n:049}\n")
    within(PATIENCE, stream.drain)
    room = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(room, descriptor)
    deadline = time.monotonic() + PATIENCE
    while not (lines := (tmp_path / "log").read_text().splitlines()) or "dropped" not in lines[-1]:
        assert time.monotonic() < deadline, lines
        time.sleep(0.05)
    assert [int(line) for line in lines[:-1]] == list(range(20))
    assert lines[-1].startswith("80 lines were dropped")


def test_counts_of_several_processes_add_up(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "dropped"
    assert counts(folder) == {}
    command = (
        "from runtime.output.log_stream import add_to; from pathlib import Path; p ="
        f" Path({str(folder / 'worker')!r})\n"
    )
    command += "for _ in range(200):\n    while not add_to(p, 2): pass"
    processes = [subprocess.Popen([sys.executable, "-c", command]) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert add_to(folder / "api", 3)
    assert counts(folder) == {"worker": 800, "api": 3}
    (folder / "api").write_text("not a number")
    assert counts(folder)["api"] == 0


CHATTY = """
import logging, os, sys, threading, warnings
from pathlib import Path
from runtime.output.logs import configure
from runtime.settings import Settings
configure(Settings(), process="worker")
for n in range(int(sys.argv[2])):
    logging.getLogger("uvicorn.error").info("%s %099d", "log", n)
    print("%099d" % n)
    print("%099d" % n, file=sys.stderr)
    warnings.warn("%099d" % n)
def fail():
    raise RuntimeError("x" * 70_000)
thread = threading.Thread(target=fail); thread.start(); thread.join()
Path(sys.argv[1]).touch()
raise RuntimeError("the end")
"""


@pytest.mark.parametrize("format", ["console", "json"])
def test_a_whole_process_outlives_that_nobody_reads_it(tmp_path: Path, format: str) -> None:
    environment = os.environ | {"LUDOTECA_HOME": str(tmp_path), "LUDOTECA_LOG_FORMAT": format}
    process = subprocess.Popen(
        [sys.executable, "-c", CHATTY, tmp_path / "done", "3000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.wait(60) == 1
    assert (tmp_path / "done").exists()
    assert process.stderr is not None
    assert process.stdout is not None
    assert counts(tmp_path / "logs" / "dropped")["worker"] > 0
    process.stdout.close()
    process.stderr.close()


def test_the_last_lines_of_a_process_are_read_when_somebody_reads(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHATTY, tmp_path / "done", "800"],
        env=os.environ | {"LUDOTECA_HOME": str(tmp_path), "LUDOTECA_LOG_FORMAT": "json"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: the end\n")
    assert done.stdout.splitlines()[-1] == f"{799:099}"
    logged = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert sum(line["logger"] == "uvicorn.error" for line in logged) == 800
    assert {line["process"] for line in logged} == {"worker"}


@pytest.fixture
def unread() -> Iterator[int]:
    """The writing end of a full pipe that nobody reads: writing one byte to it blocks."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    yield writing
    os.close(writing)
    os.close(reading)


@pytest.fixture
def kurrentdb_url() -> Iterator[str]:
    with KurrentDouble() as kurrent:
        yield kurrent.url


@pytest.mark.parametrize(
    "kind", ["api", "projector", "worker", "provider", "fiscal", "carrier", "relay", "mirror"]
)
def test_each_process_starts_works_and_ends_although_nobody_reads_it(
    kind: str, unread: int, database: str, rabbitmq_url: str, kurrentdb_url: str, tmp_path: Path
) -> None:
    own = {
        "LUDOTECA_ALLOW_UNSAFE_DATABASE": "on",
        "LUDOTECA_HOME": str(tmp_path / "home"),
        "LUDOTECA_DATABASE_URL": database,
        "LUDOTECA_RABBITMQ_URL": rabbitmq_url if kind == "relay" else "",
        "LUDOTECA_KURRENTDB_URL": kurrentdb_url if kind == "mirror" else "",
        "LUDOTECA_PORT": str(free_port()),
        "LUDOTECA_PROVIDER_PORT": (provider := str(free_port())),
        "LUDOTECA_FISCAL_PORT": (fiscal := str(free_port())),
        "LUDOTECA_CARRIER_PORT": (carrier := str(free_port())),
    }
    ports = {
        "api": own["LUDOTECA_PORT"],
        "provider": provider,
        "fiscal": fiscal,
        "carrier": carrier,
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("LUDOTECA_")}
    command = [sys.executable, "-m", "runtime.cli", kind]
    process = subprocess.Popen(command, env=others | own, stdout=unread, stderr=unread)

    def works() -> bool:
        assert process.poll() is None
        if kind in ports:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", int(ports[kind]))) == 0
        table = "log.mirror" if kind == "mirror" else "consumers.feeds"
        with psycopg.connect(database) as conn:
            row = conn.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            return row is not None and row[0] > 0

    try:
        eventually(works)
        assert kind in counts(tmp_path / "home" / "logs" / "dropped")
        if kind == "api":
            add_to(tmp_path / "home" / "logs" / "dropped" / "worker", 7)
            metrics = httpx.get(f"http://127.0.0.1:{ports[kind]}/metrics", timeout=30).text
            assert 'ludoteca_dropped_log_lines_total{process="worker"} 7.0' in metrics
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.soak
def test_a_shop_whose_output_nobody_reads_sells_and_stops(unread: int, tmp_path: Path) -> None:
    with started(
        tmp_path, output=unread, LUDOTECA_ADMIN_EMAIL=ADMIN, LUDOTECA_ADMIN_PASSWORD=PASSWORD
    ) as run:
        shop = Instance(tmp_path / "home", {}, run.port)
        run.until(run.is_ready)
        buyer, game = shop.register(), shop.game()
        order = buyer.buy(game)
        assert order.status_code in {201, 202}, order.text
        eventually(buyer.titles, lambda titles: titles == ["Celeste"], 120)
        code, seconds = run.told(signal.SIGTERM)
    assert code == 0
    assert seconds < STOP_SECONDS


# -- logs in files ---------------------------------------------------------------------------------


def test_a_text_log_that_was_rotated_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "payments.txt"
    log = FileTextLog(path)
    log.write("first")
    path.rename(path.with_suffix(".1"))
    log.write("second")
    os.truncate(path, 0)
    log.write("third")
    path.unlink()
    log.write("fourth")
    assert path.read_text().split()[1:] == ["fourth"]
    path.parent.rename(tmp_path / "old")
    log.write("fifth")
    log.close()
    assert path.read_text().split()[1:] == ["fifth"]
    assert (tmp_path / "old" / "payments.1").read_text().split()[1:] == ["first"]
    assert path.stat().st_mode & 0o077 == 0


def test_a_text_log_on_a_full_disk_stops_nothing_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = tmp_path / "payments.txt"
    full.symlink_to("/dev/full")
    log = FileTextLog(full)
    log.write("lost")
    assert "No space left" in caplog.text
    full.unlink()
    log.write("kept")
    log.close()
    assert full.read_text().split()[1:] == ["kept"]


def test_a_text_log_that_cannot_be_opened_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "logs").write_text("a file where a folder should be")
    log = FileTextLog(tmp_path / "logs" / "payments.txt")
    log.write("lost")
    log.close()
    assert "payments.txt lacks a line" in caplog.text
