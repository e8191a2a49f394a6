"""Erases what is left of forgotten persons: on the database's disk, and in files of messages."""

import asyncio
import logging

from eventstore.database.postgres import connect
from kit.cancellation import stop_if_cancelled
from projections.engine.dropping import Models
from projections.engine.erasing import Erased, erase
from queries.accounts import notifications
from queries.engine.read_models import ReadModels
from runtime.wiring.codec import codec
from runtime.wiring.core import Core

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 600
"""How often each worker looks for files of messages to forgotten persons."""

_AT_A_TIME = 1_000


def erase_from_database(url: str, models: Models) -> Erased:
    """As `projections.engine.erasing.erase`, as the tables' owner, with what is in the way logged.
    Raises psycopg.Error."""
    with connect(url, "ludoteca erasing", role="") as conn:
        done = erase(conn, codec(), models)
    for reason in done.reasons:
        logger.warning("%d forgotten persons are not erased yet: %s", done.waiting, reason)
    if done.persons and not done.log_cut:
        logger.warning(
            "forgotten persons may be in the write-ahead log until the server removes it: its user"
            " may not run pg_switch_wal and CHECKPOINT"
        )
    return done


async def delete_messages(core: Core) -> int:
    """Delete this machine's files of messages to forgotten persons. Returns their number."""
    ids = sorted(await asyncio.to_thread(core.adapters.messages_in_files))
    models, deleted = ReadModels(core.log.pool), 0
    for start in range(0, len(ids), _AT_A_TIME):
        some = ids[start : start + _AT_A_TIME]
        if gone := await notifications.of_the_forgotten(models, some):
            deleted += await asyncio.to_thread(core.adapters.delete_messages_of, gone)
    return deleted


async def keep_deleting_messages(core: Core) -> None:
    """Delete such files from time to time: each worker has its own."""
    while True:
        try:
            if count := await delete_messages(core):
                logger.info("deleted %d messages to forgotten persons", count)
        except Exception as error:  # the next look finds them
            logger.warning("messages to forgotten persons are not deleted yet: %s", error)
        stop_if_cancelled()
        await asyncio.sleep(PAUSE_SECONDS)
