"""The setting of the engine's tests: a log to append to, runners to start, rows to look at."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from domain.events import Event
from eventstore.consumers import checkpoints, quarantine
from eventstore.database.postgres import ROLE, connect
from eventstore.log import Appended, StreamAppend
from eventstore.postgres_log import PostgresLog
from projections.engine import rebuild
from projections.engine.rebuild import Verified
from projections.engine.runner import Registered, Runner
from tests.support import ROOT
from tests.support.events.tallies import CODEC


def has_table(name: str) -> Callable[[psycopg.Connection], bool]:
    """Whether a table of this name exists, for `Desk.until`."""
    return lambda conn: conn.execute("SELECT to_regclass(%s)", (name,)).fetchone() != (None,)


SOON = 20
"""How many seconds an expected change may take, also on a busy machine."""


class Desk:
    """One database with its log, seen from outside the engine."""

    def __init__(self, database: str, log: PostgresLog) -> None:
        self.database = database
        self.log = log
        self._versions: dict[UUID, int] = {}

    # -- the log -----------------------------------------------------------------------------------

    async def append(self, stream: UUID, *events: Event) -> Appended:
        """Append to a stream to which only this desk appends."""
        version = self._versions.get(stream, 0)
        self._versions[stream] = version + len(events)
        return await self.log.append([StreamAppend(stream, version, events)])

    def version(self, stream: UUID) -> int:
        """The version of a stream after the last append to it."""
        return self._versions.get(stream, 0)

    # -- runners -----------------------------------------------------------------------------------

    @contextmanager
    def running(self, *registered: Registered) -> Iterator[None]:
        """Run a runner in a thread during the block."""
        runner = Runner(self.database, CODEC, registered)
        thread = threading.Thread(target=runner.run)
        thread.start()
        try:
            yield
        finally:
            runner.stop()
            self.execute(f"NOTIFY {checkpoints.WAKE}")
            thread.join(SOON)
            assert not thread.is_alive()

    @contextmanager
    def running_process(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run a runner in a process, which may be killed."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.processes.projector", self.database], cwd=ROOT
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    # -- waiting, by position ----------------------------------------------------------------------

    async def until(self, condition: Callable[[psycopg.Connection], Any]) -> Any:
        """Wait until the condition holds in the database; returns the condition's result."""

        def watch() -> Any:
            deadline = time.monotonic() + SOON
            with self.connect() as conn:
                while not (found := condition(conn)):
                    if time.monotonic() > deadline:
                        raise AssertionError(
                            f"still not so: {checkpoints.subscriptions(conn)}"
                            f" {quarantine.held(conn)}"
                        )
                    time.sleep(0.005)
                return found

        return await asyncio.to_thread(watch)

    async def caught_up(self, *names: str) -> int:
        """Wait until the subscriptions of these names are at the log's head."""
        head = await self.log.head()
        await self.until(
            lambda conn: (
                {f.name for f in checkpoints.subscriptions(conn) if f.position >= head}
                >= set(names)
            )
        )
        return head

    # -- looking -----------------------------------------------------------------------------------

    @contextmanager
    def connect(self, role: str = ROLE) -> Iterator[psycopg.Connection]:
        """A connection like the program's own."""
        with connect(self.database, "test", role=role) as conn:
            yield conn

    def execute(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Run a statement as the owner of the database."""
        with self.connect(role="") as conn:
            cursor = conn.execute(query.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def rows(self, registered: Registered, storage: str = "") -> dict[Any, Any]:
        """The rows of a projection by key, from its active storage by default."""
        with self.connect() as conn:
            table = sql.Identifier("read", storage or rebuild.live(conn, registered).storage)
            row_type = registered.projection.row
            names = sql.SQL(", ").join(map(sql.Identifier, row_type.__struct_fields__))
            found = conn.execute(sql.SQL("SELECT {} FROM {}").format(names, table)).fetchall()
            return {row[0]: row_type(*row) for row in found}

    def verify(self, registered: Registered) -> Verified:
        """Compare the projection with a replay."""
        with self.connect() as conn:
            return rebuild.verify(conn, CODEC, registered, lambda _done, _all: None)

    def quarantined(self) -> list[quarantine.Quarantined]:
        with self.connect() as conn:
            return quarantine.held(conn)

    def subscriptions(self) -> dict[str, checkpoints.Subscription]:
        with self.connect() as conn:
            return {row.name: row for row in checkpoints.subscriptions(conn)}
