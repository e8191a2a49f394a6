"""Measures how many events per second are appended, one event per append, by concurrent callers.

Every caller appends five events to a stream, then starts the next stream. Ours is the public call
`PostgresLog.append`, so the figure includes encoding, digest, chain and NOTIFY. The peers store the
same payload: a plain INSERT, one transaction each, which gives no order and no chain; the recorder
of the `eventsourcing` library; and the stores in `benchmarks.peers`. The library's applications can
also be on our log: the same threads then call our recorder.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from functools import partial
from uuid import UUID

import psycopg
from eventsourcing.persistence import InfrastructureFactory, StoredEvent
from eventsourcing.utils import Environment

from benchmarks.callers import (
    Append,
    Read,
    append_and_read,
    append_in_threads,
    append_to_own_streams,
    append_to_popular_streams,
    run,
)
from benchmarks.events import CODEC, PAYLOAD, SOME, FundsAdded
from benchmarks.measuring import Aim, Case, Log, Sample, Table, line, take_turns
from benchmarks.peers import emmett, message_db, umadb
from benchmarks.server import Server, library_environment
from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog

CALLERS = (1, 8, 64, 256)
PEERS_CALLERS = (1, 8, 64)

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

PLAIN_READ = "SELECT version, name, payload FROM events WHERE stream_id = %s ORDER BY version"


def benchmark(server: Server, *, seconds: float, rounds: int, log: Log) -> Sequence[Table]:
    """Callers of our log, connections with a plain INSERT, threads of the library, other stores;
    then streams of unequal popularity, and as many reads as appends. Raises Missing."""
    server.template("plain", _create_plain_table)
    return [
        _own_streams(server, seconds, rounds, log),
        _popular_streams(server, seconds, rounds, log),
        _reads_between(server, seconds, rounds, log),
    ]


def _own_streams(server: Server, seconds: float, rounds: int, log: Log) -> Table:
    cases = [Case(f"append, {n}", partial(_ours, server, n, seconds)) for n in CALLERS]
    cases += [Case(f"INSERT, {n}", partial(_plain, server, n, seconds)) for n in (1, 8)]
    peers: dict[str, Callable[[int], Sample]] = {
        "library": partial(_library, server, seconds, "n"),
        "library with functions": partial(_library, server, seconds, "y"),
        "Message DB": partial(message_db.append, server, seconds),
        "Emmett": partial(emmett.append, server, seconds),
        "UmaDB": partial(umadb.append, seconds),
    }
    cases += [
        Case(f"library on our log, {n}", partial(_library_on_ours, server, seconds, n))
        for n in PEERS_CALLERS
    ]
    cases += [
        Case(f"{name}, {n}", partial(peer, n))
        for name, peer in peers.items()
        for n in PEERS_CALLERS
    ]
    aims = [
        Aim("append, 1", "INSERT, 1", at_least=0.6),
        Aim("append, 8", "INSERT, 8"),
        Aim("append, 64", "INSERT, 8", at_least=3),
        Aim("append, 64", "library, 64", at_least=25),
        Aim("append, 256", "INSERT, 8"),
        Aim("append, 256", "library, 64"),
        *(
            Aim(f"append, {n}", f"{name}, {n}")
            for name in peers
            for n in PEERS_CALLERS
            if (name, n) != ("library", 64)
        ),
        *(Aim(f"library on our log, {n}", f"library, {n}") for n in PEERS_CALLERS),
    ]
    samples = take_turns(cases, rounds, log)
    lines = [line(case.name, samples, aims, unit="events/s") for case in cases]
    return Table("Append, one event each, by callers at once", lines)


def _popular_streams(server: Server, seconds: float, rounds: int, log: Log) -> Table:
    counts = (8, 64)
    call = append_to_popular_streams
    cases = [Case(f"append, {n}", partial(_ours, server, n, seconds, call)) for n in counts]
    cases += [Case(f"INSERT, {n}", partial(_plain, server, n, seconds, call)) for n in counts]
    aims = [Aim(f"append, {n}", f"INSERT, {n}") for n in counts]
    samples = take_turns(cases, rounds, log)
    lines = [line(case.name, samples, aims, unit="events/s") for case in cases]
    return Table("Append to streams drawn by Zipf's law, by callers at once", lines)


def _reads_between(server: Server, seconds: float, rounds: int, log: Log) -> Table:
    counts = (8, 64)
    cases = [Case(f"append and read, {n}", partial(_ours_read, server, n, seconds)) for n in counts]
    cases += [
        Case(f"INSERT and SELECT, {n}", partial(_plain_read, server, n, seconds)) for n in counts
    ]
    aims = [Aim(f"append and read, {n}", f"INSERT and SELECT, {n}") for n in counts]
    samples = take_turns(cases, rounds, log)
    lines = [line(case.name, samples, aims, unit="operations/s") for case in cases]
    return Table("Append an event, then read its stream, by callers at once", lines)


# -- ours ------------------------------------------------------------------------------------------

Shape = Callable[[Sequence[Append], float], Coroutine[None, None, Sample]]
"""How callers choose their streams."""


def _ours(
    server: Server, callers: int, seconds: float, shape: Shape = append_to_own_streams
) -> Sample:
    async def main(url: str) -> Sample:
        async with PostgresLog.open(url, CODEC) as log:
            return await shape([_appending(log)] * callers, seconds)

    with server.fresh("ours") as url:
        return run(main(url))


def _ours_read(server: Server, callers: int, seconds: float) -> Sample:
    async def main(url: str) -> Sample:
        async with PostgresLog.open(url, CODEC) as log:
            return await append_and_read([(_appending(log), log.read_stream)] * callers, seconds)

    with server.fresh("ours") as url:
        return run(main(url))


def _appending(log: PostgresLog) -> Append:
    async def append(stream_id: UUID, version: int) -> object:
        return await log.append([StreamAppend(stream_id, version - 1, [SOME])])

    return append


# -- a plain table ---------------------------------------------------------------------------------


def _plain(
    server: Server, callers: int, seconds: float, shape: Shape = append_to_own_streams
) -> Sample:
    async def main(url: str) -> Sample:
        async with AsyncExitStack() as stack:
            appends = [
                _inserting(await stack.enter_async_context(await _connect(url)))
                for _ in range(callers)
            ]
            return await shape(appends, seconds)

    with server.fresh("plain") as url:
        return run(main(url))


def _plain_read(server: Server, callers: int, seconds: float) -> Sample:
    async def main(url: str) -> Sample:
        async with AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(await _connect(url)) for _ in range(callers)
            ]
            pairs = [(_inserting(conn), _selecting(conn)) for conn in connections]
            return await append_and_read(pairs, seconds)

    with server.fresh("plain") as url:
        return run(main(url))


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


def _selecting(conn: psycopg.AsyncConnection) -> Read:
    cursor = conn.cursor(binary=True)

    async def read(stream_id: UUID) -> object:
        await cursor.execute(PLAIN_READ, (stream_id,), prepare=True)
        return [
            (version, name, CODEC.decode(name, payload, UUID(int=0)))
            for version, name, payload in await cursor.fetchall()
        ]

    return read


def _create_plain_table(url: str) -> None:
    with psycopg.connect(url) as conn:
        conn.execute(PLAIN_TABLE)


# -- the library: it is synchronous ----------------------------------------------------------------


def _library(server: Server, seconds: float, functions: str, callers: int) -> Sample:
    with server.fresh() as url:
        env = {**library_environment(url), "POSTGRES_ENABLE_DB_FUNCTIONS": functions}
        return _inserting_by_threads(env, callers, seconds)


def _library_on_ours(server: Server, seconds: float, callers: int) -> Sample:
    with server.fresh("ours") as url:
        env = library_environment(url, "adapters.eventsourcing_recorder")
        return _inserting_by_threads(env, callers, seconds)


def _inserting_by_threads(env: Mapping[str, str], callers: int, seconds: float) -> Sample:
    with closing(InfrastructureFactory.construct(Environment(env=env))) as factory:
        recorder = factory.application_recorder()

        def append(stream_id: UUID, version: int) -> object:
            return recorder.insert_events(
                [StoredEvent(stream_id, version, FundsAdded.NAME, PAYLOAD)]
            )

        return append_in_threads([append] * callers, seconds)
