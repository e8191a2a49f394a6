"""What is stuck in a shop: dead letters, and streams that cannot be applied."""

from typing import Any
from uuid import UUID, uuid4

from commands.ports.queue import Job
from domain.catalog import GameUpdated
from eventstore.log import Metadata, StreamAppend
from tests.support.shops.gateway import Person, Shop

QUEUE = "ludoteca.payments"


async def killed(shop: Shop, kind: str, count: int) -> list[UUID]:
    """Jobs of a kind that are dead, as their attempts are used up."""
    jobs = [Job(uuid4(), kind, {"payment_id": str(uuid4())}) for _ in range(count)]
    async with shop.core.log.pool.connection() as conn:
        for job in jobs:
            await conn.execute(
                "INSERT INTO queue.jobs (queue, id, kind, body, attempts, error, died_at)"
                " VALUES (%s, %s, %s, '{}', 3, 'The provider is down', clock_timestamp())",
                (QUEUE, job.id, job.kind),
            )
    return [job.id for job in jobs]


async def poisoned(shop: Shop, count: int) -> list[UUID]:
    """Streams of games that begin with an update, which no read model of games can apply."""
    ids = [uuid4() for _ in range(count)]
    await shop.core.log.append(
        [StreamAppend(each, 0, [GameUpdated(title="out of nowhere")]) for each in ids],
        Metadata("test"),
    )
    return ids


async def selected(who: Person, path: str, **query: str) -> dict[str, Any]:
    """What a filter of dead letters or of the quarantine shows."""
    answer = await who.get(f"{path}/selection", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
