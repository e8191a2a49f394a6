"""A process that decides on contended aggregates, beside others that do the same."""

import asyncio
from uuid import UUID

from eventstore.decide import decide
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork
from tests.support.events.notes import CODEC, TALLY, Counted


async def count(repository: Repository, stream: UUID, by: int) -> None:
    """Add one to a tally."""

    async def decision(unit: UnitOfWork) -> None:
        if await unit.load(TALLY, stream) is None:
            unit.create(TALLY, stream, [])
        unit.emit(stream, [Counted(by)])

    await decide(repository, decision)


def contend(url: str, streams: list[UUID], times: int) -> None:
    """Add one this many times to each of these streams, from tasks that all start at once."""

    async def run() -> None:
        async with PostgresLog.open(url, CODEC, pool_size=3) as log:
            repository = Repository(log)
            await asyncio.gather(
                *(count(repository, stream, 1) for stream in streams for _ in range(times))
            )

    asyncio.run(run())
