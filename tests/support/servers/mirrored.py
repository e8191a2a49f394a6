"""A KurrentDB double as the log of record, which PostgreSQL mirrors."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from adapters.kurrentdb.mirror import Mirror
from runtime.wiring.codec import codec
from tests.support.servers.kurrent import KurrentDouble
from tests.support.servers.log_of_record import KURRENTDB_URL


@contextmanager
def mirrored() -> Iterator[KurrentDouble]:
    """A double, named by the environment: whatever opens a log now, in this process or in one that
    it starts, appends there. A mirror is needed besides."""
    with KurrentDouble() as kurrent, pytest.MonkeyPatch.context() as environment:
        environment.setitem(os.environ, KURRENTDB_URL, kurrent.url)
        yield kurrent


def all_were_decided_there(kurrent: KurrentDouble, database: str) -> bool:
    """Whether every event of the database is one of KurrentDB's: the suite ran on it."""
    with psycopg.connect(database) as conn:
        here = {str(event_id) for (event_id,) in conn.execute("SELECT event_id FROM log.events")}
    return here <= {record.id for record in kurrent.store.log}


@contextmanager
def mirroring(kurrentdb_url: str, database: str) -> Iterator[None]:
    """A mirror in a thread with a loop of its own, which no test holds up."""
    loop = asyncio.new_event_loop()
    mirror = Mirror(kurrentdb_url, database, codec().kinds)
    task = loop.create_task(mirror.run())

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(asyncio.wait([task]))
        loop.close()

    thread = threading.Thread(target=run, name="mirror")
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
