"""Holds the log's tail, so that appends of all processes wait."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.support.events.notes import admin

SOON = 20
WRITERS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name ="
    " 'ludoteca writer'"
)
WAITING = f"{WRITERS} AND wait_event_type = 'Lock'"


@contextmanager
def tail_held(database: str) -> Iterator[psycopg.Connection]:
    """As if another process were in the middle of an append: the log's writers wait until its
    transaction ends."""
    with psycopg.connect(database) as conn:
        conn.execute("SELECT pg_advisory_xact_lock(4910, 1)")
        yield conn


async def until_waiting(database: str, count: int = 1) -> None:
    """Wait until this many writers wait for the tail."""

    def watch() -> None:
        deadline = time.monotonic() + SOON
        while len(admin(database, WAITING)) < count:
            assert time.monotonic() < deadline
            time.sleep(0.005)

    await asyncio.to_thread(watch)
