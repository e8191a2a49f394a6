"""Two logs under load from several processes: the program's own, and one as it is commonly
built."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import TupleRow

from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog
from tests.support.events.notes import CODEC, noted

CALLERS = 8
"""Concurrent requests of each process."""

Seen = tuple[int, UUID]


class BusyLog(Protocol):
    """What the test needs of a log."""

    async def append(self, texts: list[str]) -> list[UUID]:
        """Append to a new stream. Returns the events' ids once they are durable."""
        ...

    def follow(self) -> AsyncIterator[list[Seen]]:
        """Positions and ids of events, in the order in which a subscriber gets them. Endless."""
        ...


class TailLog:
    """The program's log."""

    def __init__(self, log: PostgresLog) -> None:
        self._log = log

    async def append(self, texts: list[str]) -> list[UUID]:
        return list((await self._log.append([StreamAppend(uuid4(), 0, noted(*texts))])).event_ids)

    async def follow(self) -> AsyncIterator[list[Seen]]:
        async for events in self._log.subscribe():
            yield [(event.env.position, event.env.event_id) for event in events]


class IdentityLog:
    """A table with an identity column and one transaction per append; a reader asks for what is
    above the last id.

    An id is drawn before its transaction commits: a reader that saw a higher one in between never
    returns to it.
    """

    TABLE = (
        "CREATE TABLE identity_log (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id"
        " uuid, body text)"
    )

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[psycopg.AsyncConnection[TupleRow]] = []

    async def append(self, texts: list[str]) -> list[UUID]:
        conn = self._idle.pop() if self._idle else await psycopg.AsyncConnection.connect(self._url)
        ids = [uuid4() for _ in texts]
        async with conn.transaction():
            for event_id, text in zip(ids, texts, strict=True):
                await conn.execute(
                    "INSERT INTO identity_log (event_id, body) VALUES (%s, %s)", (event_id, text)
                )
            # an occasional slow transaction, as on any busy server
            if random.random() < 0.05:
                await asyncio.sleep(0.02)
        self._idle.append(conn)
        return ids

    async def follow(self) -> AsyncIterator[list[Seen]]:
        conn, last = await psycopg.AsyncConnection.connect(self._url, autocommit=True), 0
        async with conn:
            while True:
                rows = await conn.execute(
                    "SELECT id, event_id FROM identity_log WHERE id > %s ORDER BY id LIMIT 1000",
                    (last,),
                )
                page: list[Seen] = await rows.fetchall()
                if page:
                    last = page[-1][0]
                    yield page
                else:
                    await asyncio.sleep(0.001)

    async def close(self) -> None:
        for conn in self._idle:
            await conn.close()


def open_busy_log(kind: str, url: str) -> AbstractAsyncContextManager[BusyLog]:
    """Open a log of a kind in this process."""
    return _tail(url) if kind == "tail" else _identity(url)


@asynccontextmanager
async def _tail(url: str) -> AsyncIterator[BusyLog]:
    async with PostgresLog.open(url, CODEC, pool_size=2) as log:
        yield TailLog(log)


@asynccontextmanager
async def _identity(url: str) -> AsyncIterator[BusyLog]:
    log = IdentityLog(url)
    yield log
    await log.close()


def append_for(kind: str, url: str, seconds: float) -> list[bytes]:
    """Append from several concurrent callers for this many seconds. Returns the ids of the durable
    events."""

    async def caller(log: BusyLog, until: float, told: list[bytes]) -> None:
        while time.monotonic() < until:
            ids = await log.append([f"event {n}" for n in range(random.choice((1, 1, 1, 2, 5)))])
            told.extend(event_id.bytes for event_id in ids)

    async def run() -> list[bytes]:
        told: list[bytes] = []
        async with open_busy_log(kind, url) as log:
            until = time.monotonic() + seconds
            await asyncio.gather(*(caller(log, until, told) for _ in range(CALLERS)))
        return told

    return asyncio.run(run())
