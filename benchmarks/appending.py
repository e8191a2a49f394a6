"""Measures how many events per second are appended, one event per append, by concurrent callers.

Every caller appends five events to a stream, then starts the next stream. Ours is the public call
`PostgresLog.append`, so the figure includes encoding, digest, chain and NOTIFY. The peers store the
same payload: a plain INSERT, one transaction each, which gives no order and no chain; and the
recorder of the `eventsourcing` library.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, closing
from functools import partial
from uuid import UUID, uuid4

import psycopg
import uvloop
from eventsourcing.persistence import InfrastructureFactory, StoredEvent
from eventsourcing.utils import Environment

from benchmarks.events import CODEC, PAYLOAD, SOME, FundsAdded
from benchmarks.measuring import Aim, Case, Log, Sample, Table, line, take_turns
from benchmarks.server import Server, library_environment
from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog

CALLERS = (1, 8, 64, 256)
PER_STREAM = 5
WARM_UP_SECONDS = 0.5

PLAIN_TABLE = """
CREATE TABLE events (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream_id uuid NOT NULL, version bigint NOT NULL, name text NOT NULL, payload bytea NOT NULL,
    UNIQUE (stream_id, version))
"""
PLAIN_INSERT = (
    "INSERT INTO events (stream_id, version, name, payload) VALUES (%s, %s, %s, %s) RETURNING"
    " position"
)

Append = Callable[[UUID, int], Awaitable[object]]
"""Appends one event: stream and version."""


def benchmark(server: Server, *, seconds: float, rounds: int, log: Log) -> Table:
    """Callers of our log, connections with a plain INSERT, and threads of the library."""
    server.template("plain", _create_plain_table)
    cases = [Case(f"append, {n}", partial(_ours, server, n, seconds)) for n in CALLERS]
    cases += [Case(f"INSERT, {n}", partial(_plain, server, n, seconds)) for n in (1, 8)]
    cases += [Case(f"library, {n}", partial(_library, server, n, seconds)) for n in (1, 8, 64)]
    cases += [
        Case(f"library with functions, {n}", partial(_library, server, n, seconds, "y"))
        for n in (1, 8, 64)
    ]
    aims = [
        Aim("append, 1", "INSERT, 1", at_least=0.7),
        Aim("append, 1", "library, 1"),
        Aim("append, 1", "library with functions, 1"),
        Aim("append, 8", "INSERT, 8"),
        Aim("append, 8", "library, 8"),
        Aim("append, 8", "library with functions, 8"),
        Aim("append, 64", "INSERT, 8", at_least=3),
        Aim("append, 64", "library, 64", at_least=25),
        Aim("append, 64", "library with functions, 64"),
        Aim("append, 256", "INSERT, 8"),
        Aim("append, 256", "library, 64"),
    ]
    samples = take_turns(cases, rounds, log)
    lines = [line(case.name, samples, aims, unit="events/s") for case in cases]
    return Table("Append, one event each, by callers at once", lines)


# -- callers as coroutines -------------------------------------------------------------------------


async def _call(appends: list[Append], seconds: float) -> Sample:
    """Each caller appends again as soon as it is answered. Only appends that begin and end within
    the measured time count."""
    begin = time.perf_counter() + WARM_UP_SECONDS
    end = begin + seconds
    latencies: list[float] = []

    async def caller(append: Append) -> None:
        stream_id, version = uuid4(), 0
        while (started := time.perf_counter()) < end:
            if version == PER_STREAM:
                stream_id, version = uuid4(), 0
            version += 1
            await append(stream_id, version)
            now = time.perf_counter()
            if started >= begin and now <= end:
                latencies.append(now - started)

    await asyncio.gather(*map(caller, appends))
    return Sample(len(latencies), seconds, latencies)


def _run(main: Coroutine[None, None, Sample]) -> Sample:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _ours(server: Server, callers: int, seconds: float) -> Sample:
    async def main(url: str) -> Sample:
        async with PostgresLog.open(url, CODEC) as log:

            async def append(stream_id: UUID, version: int) -> object:
                return await log.append([StreamAppend(stream_id, version - 1, [SOME])])

            return await _call([append] * callers, seconds)

    with server.fresh("ours") as url:
        return _run(main(url))


def _plain(server: Server, callers: int, seconds: float) -> Sample:
    async def main(url: str) -> Sample:
        async with AsyncExitStack() as stack:
            appends = [
                _inserting(await stack.enter_async_context(await _connect(url)))
                for _ in range(callers)
            ]
            return await _call(appends, seconds)

    with server.fresh("plain") as url:
        return _run(main(url))


async def _connect(url: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(url, autocommit=True)


def _inserting(conn: psycopg.AsyncConnection) -> Append:
    cursor = conn.cursor(binary=True)

    async def append(stream_id: UUID, version: int) -> object:
        await cursor.execute(
            PLAIN_INSERT, (stream_id, version, FundsAdded.NAME, PAYLOAD), prepare=True
        )
        return await cursor.fetchone()

    return append


def _create_plain_table(url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute(PLAIN_TABLE)


# -- callers as threads: the library is synchronous ------------------------------------------------


def _library(server: Server, callers: int, seconds: float, functions: str = "n") -> Sample:
    with server.fresh() as url:
        env = {**library_environment(url), "POSTGRES_ENABLE_DB_FUNCTIONS": functions}
        with closing(InfrastructureFactory.construct(Environment(env=env))) as factory:
            recorder = factory.application_recorder()

            def append(stream_id: UUID, version: int) -> object:
                return recorder.insert_events(
                    [StoredEvent(stream_id, version, FundsAdded.NAME, PAYLOAD)]
                )

            return _call_in_threads(append, callers, seconds)


def _call_in_threads(append: Callable[[UUID, int], object], callers: int, seconds: float) -> Sample:
    begin = time.perf_counter() + WARM_UP_SECONDS
    end = begin + seconds
    latencies: list[list[float]] = [[] for _ in range(callers)]
    errors: list[BaseException] = []

    def caller(mine: list[float]) -> None:
        stream_id, version = uuid4(), 0
        try:
            while (started := time.perf_counter()) < end:
                if version == PER_STREAM:
                    stream_id, version = uuid4(), 0
                version += 1
                append(stream_id, version)
                now = time.perf_counter()
                if started >= begin and now <= end:
                    mine.append(now - started)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=caller, args=(mine,)) for mine in latencies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    everyone = [latency for mine in latencies for latency in mine]
    return Sample(len(everyone), seconds, everyone)
