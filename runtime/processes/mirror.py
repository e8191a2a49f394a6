"""The mirror: copies the log of record, in KurrentDB, into PostgreSQL."""

import asyncio
import logging

from eventstore.consumers.leadership import RETRY_SECONDS, leading
from eventstore.database.postgres import AWAY
from kit.cancellation import stop_if_cancelled
from runtime.database.instance import database_url
from runtime.settings import Settings
from runtime.wiring.kurrentdb import MIRROR, mirror_of

logger = logging.getLogger(__name__)


async def mirror(settings: Settings) -> None:
    """Mirror KurrentDB in PostgreSQL, while no other process does."""
    url, mirror = database_url(settings), mirror_of(settings)
    while True:
        stop_if_cancelled()
        try:
            async with leading(url, MIRROR):
                await mirror.run()
        except* AWAY as errors:
            logger.warning("the mirror lost its lead: %s", errors.exceptions[0])
        await asyncio.sleep(RETRY_SECONDS)
