"""Measures how fast a read model is folded from 100,000 events: by catching up, and by a rebuild.

Catching up is a `Runner` as the program runs it, from its start to the last event. A rebuild is the
whole of `rebuild`: fold, bulk load, comparison with the live rows, switch. The peers are the
`eventsourcing` library's `ProjectionRunner`, which uses a transaction per event, on its own events
(stopped after a while: its rate stays the same), and a bare COPY of as many rows, which folds
nothing.
"""

import asyncio
import threading
import time
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import psycopg
from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection as LibraryProjection
from eventsourcing.projection import ProjectionRunner
from psycopg.sql import SQL, Identifier

from benchmarks.appending import PLAIN_TABLE
from benchmarks.events import CODEC, PAYLOAD, SOME, Balance, Balances, FundsAdded
from benchmarks.measuring import Aim, Case, Log, Sample, Table, line, take_turns
from benchmarks.server import Server, connect_as_program, library_environment
from eventstore.consumers import checkpoints
from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog
from projections.engine.rebuild import Processes, rebuild, usual_count
from projections.engine.runner import Registered, Runner
from projections.engine.tables import PostgresTable

STREAMS, PER_STREAM = 10_000, 10
EVENTS = STREAMS * PER_STREAM
REGISTERED = Registered(Balances(), PostgresTable(Balance))
FEED = f"{Balances.name}.{Balances.version}"


def benchmark(server: Server, *, seconds: float, rounds: int, log: Log) -> Table:
    """Our catch-up and rebuild, the library's runner, for `seconds`, and a bare COPY."""
    log(f"appending {EVENTS:,} events to each log")
    server.template("full", _fill, of="ours")
    server.template("folded", _fold, of="full")
    server.template("library_full", _fill_library)
    cases = [
        Case("catch-up", partial(_catch_up, server)),
        Case("rebuild", partial(_rebuild, server)),
        Case("library's runner", partial(_library, server, seconds)),
        Case("COPY", partial(_copy, server)),
    ]
    aims = [
        Aim("catch-up", "library's runner", at_least=60),
        Aim("catch-up", "COPY"),
        Aim("rebuild", "library's runner", at_least=150),
        Aim("rebuild", "COPY"),
    ]
    samples = take_turns(cases, rounds, log)
    lines = [line(case.name, samples, aims, unit="events/s") for case in cases]
    return Table(
        f"Fold {EVENTS:,} events ({STREAMS:,} streams × {PER_STREAM}) into a read model", lines
    )


# -- ours ------------------------------------------------------------------------------------------


def _fill(url: str) -> None:
    """Append the events, with their streams interleaved, and leave the table as autovacuum
    would."""

    async def main() -> None:
        async with PostgresLog.open(url, CODEC) as log:
            streams = [uuid4() for _ in range(STREAMS)]
            for version in range(PER_STREAM):
                for start in range(0, STREAMS, 500):
                    await log.append(
                        [StreamAppend(s, version, [SOME]) for s in streams[start : start + 500]]
                    )

    asyncio.run(main())
    _vacuum(url)


def _fold(url: str) -> None:
    """Run a projector until it has seen the whole log."""
    runner = Runner(url, CODEC, [REGISTERED])
    thread = threading.Thread(target=runner.run)
    with connect_as_program(url) as conn:
        thread.start()
        while (row := checkpoints.subscription(conn, FEED)) is None or row.position < EVENTS:
            if not thread.is_alive():
                raise RuntimeError("the projector ended")
            time.sleep(0.005)
    runner.stop()
    thread.join()


def _catch_up(server: Server) -> Sample:
    with server.fresh("full") as url:
        started = time.perf_counter()
        _fold(url)
        return Sample(EVENTS, time.perf_counter() - started)


def _rebuild(server: Server) -> Sample:
    with server.fresh("folded") as url, connect_as_program(url) as conn:
        started = time.perf_counter()
        processes = Processes(usual_count(), partial(connect_as_program, url))
        rebuilt = rebuild(conn, CODEC, REGISTERED, lambda _done, _all: None, processes=processes)
        seconds = time.perf_counter() - started
        if rebuilt.rows != STREAMS:
            raise RuntimeError(f"{rebuilt.rows} rows instead of {STREAMS}")
        return Sample(EVENTS, seconds)


# -- peers -----------------------------------------------------------------------------------------


class Account(Aggregate):
    """An aggregate of the library, with as many events as one of our streams."""

    @event("Opened")
    def __init__(self, currency: str) -> None:
        self.currency = currency
        self.balance_cents = 0

    @event("FundsAdded")
    def add_funds(self, amount_cents: int, reference: str) -> None:  # noqa: ARG002 - what the library stores
        """Money was added."""
        self.balance_cents += amount_cents


class Bank(Application[UUID]):
    """The library's application with those aggregates."""


class View(PostgresTrackingRecorder):
    """The library's materialised view: row and position in one transaction per event."""

    def __init__(self, datastore: PostgresDatastore, **options: Any) -> None:
        super().__init__(datastore, **options)
        table = (
            "CREATE TABLE IF NOT EXISTS {}.counters (stream_id uuid PRIMARY KEY, events bigint NOT"
            " NULL)"
        )
        self.sql_create_statements.append(SQL(table).format(Identifier(datastore.schema)))

    def count(self, stream_id: UUID, tracking: Tracking) -> None:
        upsert = (
            "INSERT INTO counters VALUES (%s, 1) ON CONFLICT (stream_id) DO UPDATE SET events ="
            " counters.events + 1"
        )
        with self.datastore.transaction(commit=True) as cursor:
            cursor.execute(upsert, (stream_id,), prepare=True)
            self._insert_tracking(cursor, tracking)


class Counters(LibraryProjection[View]):
    """The library's projection."""

    name = "counters"

    @singledispatchmethod
    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Count any event."""
        self.view.count(domain_event.originator_id, tracking)


def _fill_library(url: str) -> None:
    """Store events exactly as the library would, but by COPY: the library would take minutes."""
    app = Bank(env=library_environment(url))
    account = Account("BRL")
    for _ in range(PER_STREAM - 1):
        account.add_funds(SOME.amount_cents, str(SOME.reference))
    stored = [app.mapper.to_stored_event(e) for e in account.collect_events()]
    streams = [uuid4() for _ in range(STREAMS)]
    copy_from = (
        "COPY bank_events (originator_id, originator_version, topic, state) FROM STDIN (FORMAT"
        " BINARY)"
    )
    with psycopg.connect(url) as conn, conn.cursor() as cursor, cursor.copy(copy_from) as copy:
        copy.set_types(["uuid", "int8", "text", "bytea"])
        for e in stored:
            for stream_id in streams:
                copy.write_row((stream_id, e.originator_version, e.topic, e.state))
    app.close()
    _vacuum(url)


def _library(server: Server, seconds: float) -> Sample:
    with server.fresh("library_full") as url:
        started = time.perf_counter()
        with ProjectionRunner(
            application_class=Bank,
            projection_class=Counters,
            view_class=View,
            env=library_environment(url),
        ) as runner:
            while (done := runner.view.max_tracking_id("Bank") or 0) < EVENTS:
                if time.perf_counter() - started > seconds:
                    break
                time.sleep(0.1)
            return Sample(done, time.perf_counter() - started)


def _copy(server: Server) -> Sample:
    rows = [(uuid4(), 1, FundsAdded.NAME, PAYLOAD) for _ in range(EVENTS)]
    with server.fresh() as url, psycopg.connect(url) as conn:
        conn.execute(PLAIN_TABLE)
        conn.commit()
        started = time.perf_counter()
        copy_from = "COPY events (stream_id, version, name, payload) FROM STDIN (FORMAT BINARY)"
        with conn.cursor() as cursor, cursor.copy(copy_from) as copy:
            copy.set_types(["uuid", "int8", "text", "bytea"])
            for row in rows:
                copy.write_row(row)
        conn.commit()
        return Sample(EVENTS, time.perf_counter() - started)


def _vacuum(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")
