"""Holds appends up: all of them at the log's tail, or one on its way to the writer."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog
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


def hold_up(
    log: PostgresLog,
    name: str,
    going_on: asyncio.Event,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | None = None,
) -> None:
    """Keep the link of this name on its way to the writer, where it perhaps never comes."""
    encode = log._encoder.encode

    async def held_up(streams: list[StreamAppend], *more: Any) -> Any:
        if streams[0].events[0].text.startswith(name):  # type: ignore[attr-defined]
            await going_on.wait()
            if error is not None:
                raise error
        return await encode(streams, *more)

    monkeypatch.setattr(log._encoder, "encode", held_up)
