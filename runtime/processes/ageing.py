"""What grows for ever unless it is deleted: how old each may become (`runtime.settings.keeping`),
and who deletes it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from psycopg_pool import AsyncConnectionPool

from eventstore.consumers import checkpoints
from eventstore.database.postgres import AWAY, connect
from projections.engine import dropping, past, past_erasing
from projections.engine.advancing import Registered
from projections.registry import read_models
from runtime.audit.past_building import Bounds, make_room
from runtime.gateway.past import bounds_of
from runtime.processes.erasing import erase_from_database
from runtime.wiring.codec import codec
from runtime.wiring.core import Core
from runtime.wiring.search import search_models
from runtime.wiring.work import Queues

logger = logging.getLogger(__name__)

Duty = Callable[[], Awaitable[int]]
"""Deletes what is too old. Returns how much that was."""

_REFUSALS = "DELETE FROM consumers.refusals WHERE at < least(%s, clock_timestamp() - %s::interval)"


def duties_of(core: Core, queues: Queues) -> Mapping[str, Duty]:
    """All duties, by what they delete."""
    settings, now = core.settings, core.clock.now

    def before(days: int) -> datetime:
        return now() - timedelta(days=days)

    async def dead_letters() -> int:
        until = before(settings.dead_letters_days)
        return sum([await queue.delete_dead(until) for queue in queues.values()])

    async def message_files() -> int:
        until = before(settings.message_files_days)
        return await asyncio.to_thread(core.adapters.delete_message_files, until)

    async def erasures() -> int:
        return (await asyncio.to_thread(erase_from_database, core.url, models)).persons

    models = {each.projection.name: each for each in (*read_models(), *search_models(settings))}
    return {
        "refusals": lambda: delete_refusals(
            core.log.pool, now(), timedelta(days=settings.refusals_days)
        ),
        "dead letters": dead_letters,
        "message files": message_files,
        "past read models": lambda: asyncio.to_thread(drop_past, core.url, bounds_of(settings)),
        "traces of forgotten persons": erasures,
        "storages": lambda: asyncio.to_thread(
            drop_storages, core.url, models, timedelta(days=settings.storages_days)
        ),
    }


async def fulfil(duties: Mapping[str, Duty]) -> None:
    """Do all duties once. One that fails is logged, and the others are done. Raises AWAY."""
    for name, duty in duties.items():
        try:
            count = await duty()
        except AWAY:
            raise
        except Exception as error:
            logger.warning("old %s could not be deleted; trying again: %r", name, error)
        else:
            if count:
                logger.info("deleted %d old %s", count, name)


async def delete_refusals(pool: AsyncConnectionPool, now: datetime, age: timedelta) -> int:
    """Delete the refusals of reactions that are older, by the database's clock and by ours."""
    async with pool.connection() as conn:
        return (await conn.execute(_REFUSALS, (now - age, age))).rowcount


def drop_past(url: str, bounds: Bounds) -> int:
    """Drop tables that queries of past moments had built, once they are unused for long, and those
    that may still show somebody who was forgotten since."""
    with connect(url, "ludoteca worker") as conn:
        try:
            forgotten = past_erasing.drop_forgotten(conn, codec(), read_models())
        except (past.BuiltElsewhere, past.ReadNow) as error:
            logger.info("%s: looked at again the next time", error)
            forgotten = 0
        return forgotten + make_room(conn, bounds)


def drop_storages(url: str, models: Mapping[str, Registered], age: timedelta) -> int:
    """Drop the storages that nothing reads, and into which nothing was folded for so long."""
    dropped = 0
    with connect(url, "ludoteca worker") as conn:
        for row in dropping.unused(conn, models):
            if checkpoints.still_for(conn, row.name, age):
                try:
                    done = dropping.drop_all(conn, models, [row])
                except (dropping.InUse, dropping.Busy):
                    continue  # looked at again the next time
                dropped += sum(each.dropped for each in done)
    return dropped
