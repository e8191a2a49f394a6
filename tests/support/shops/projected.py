"""A shop with a running projector: append events, and query once they are projected."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import msgspec

from commands.aggregates import ALL
from eventstore.log import StreamAppend
from eventstore.postgres_log import PostgresLog
from projections.engine.runner import Registered, Runner
from projections.registry import read_models
from queries.audit.log import Audit
from queries.engine.read_models import ReadModels
from queries.operations.control import Operations
from runtime.wiring.codec import codec

CODEC = codec()


class Shop:
    """What the tests of queries need of the program."""

    def __init__(self, url: str, log: PostgresLog) -> None:
        self.url = url
        self.log = log
        self.models = ReadModels(log.pool)
        self.audit = Audit(log, ALL)
        self.operations = Operations(log.pool)
        self._versions: dict[UUID, int] = {}

    async def happened(self, stream_id: UUID, *events: msgspec.Struct) -> int:
        """Append to one stream; returns the position."""
        return await self.all_happened([(stream_id, events)])

    async def all_happened(self, streams: Sequence[tuple[UUID, Sequence[msgspec.Struct]]]) -> int:
        """Append to several streams at once; returns the position. Creates keys for the persons in
        them."""
        persons = {
            CODEC.person_of(event, stream_id) for stream_id, events in streams for event in events
        } - {None}
        await self.log.keys.create(person for person in persons if person)
        appends = []
        for stream_id, events in streams:
            version = self._versions.get(stream_id, 0)
            self._versions[stream_id] = version + len(events)
            appends.append(StreamAppend(stream_id, version, list(events)))
        return (await self.log.append(appends)).position

    async def projected(self) -> ReadModels:
        """The read models once they have all events so far."""
        return self.models.reaching(await self.log.head(), timeout=20)


@asynccontextmanager
async def open_shop(url: str) -> AsyncIterator[Shop]:
    """A shop without a projector."""
    async with PostgresLog.open(url, CODEC, pool_size=4) as log:
        yield Shop(url, log)


@asynccontextmanager
async def projecting(
    url: str, registered: Sequence[Registered] | None = None
) -> AsyncIterator[None]:
    """Run a projector."""
    runner = Runner(url, CODEC, read_models() if registered is None else registered)
    thread = threading.Thread(target=runner.run, name="projector")
    thread.start()
    try:
        yield
    finally:
        runner.stop()
        await asyncio.to_thread(thread.join)


def model(name: str) -> Registered:
    """A read model by its name."""
    return next(each for each in read_models() if each.projection.name == name)


def rows_of(registered: Registered, events: Sequence[Any]) -> list[Any]:
    """All rows of a read model after some events, folded in memory."""
    return registered.projection.fold(events).all()
