"""A stream in which each event names the one that its decision rested on."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import msgspec

from eventstore.aggregate import Aggregate
from eventstore.decide import decide
from eventstore.log import Appended, IdempotencyKey, whole_stream
from eventstore.postgres_log import PostgresLog
from eventstore.repository import Repository
from eventstore.unit_of_work import UnitOfWork
from tests.support.events.notes import CODEC, Noted


class Link(msgspec.Struct, frozen=True):
    """The last event's name."""

    name: str = ""


def _evolve(_: Link | None, event: Noted) -> Link:
    return Link(event.text.partition(" after ")[0])


LINK = Aggregate("test", Link, _evolve)


async def emit_link(unit: UnitOfWork, stream: UUID, name: str) -> None:
    """Emit the next event of a stream."""
    last = await unit.load(LINK, stream, likely_new=True)
    unit.emit(stream, [Noted(f"{name} after {last.name if last else ''}")])


async def link(
    repository: Repository, name: str, *streams: UUID, once: IdempotencyKey | None = None
) -> Appended:
    """Append the next event of each of these streams."""

    async def decision(unit: UnitOfWork) -> None:
        for stream in streams:
            await emit_link(unit, stream, name)

    _, appended = await decide(repository, decision, once=once)
    assert appended is not None
    return appended


async def names_of(log: PostgresLog, stream: UUID) -> list[str]:
    """The events' names in order. Raises AssertionError unless each rests on the one before."""
    names = [""]
    for recorded in await whole_stream(log, stream):
        name, _, after = recorded.event.text.partition(" after ")
        assert after == names[-1], f"{name} rests on {after!r}, and comes after {names[-1]!r}"
        names.append(name)
    assert len(names) == len(set(names))
    return names[1:]


def link_in_a_process(url: str, prefix: str, streams: Sequence[UUID], times: int) -> None:
    """Append this many links to each of these streams, from tasks that all start at once."""

    async def run() -> None:
        async with PostgresLog.open(url, CODEC, pool_size=3) as log:
            repository = Repository(log)
            tasks = (
                link(repository, f"{prefix}{n}", stream) for stream in streams for n in range(times)
            )
            await asyncio.gather(*tasks)

    asyncio.run(run())
