"""Which log the decisions are in: PostgreSQL's, or KurrentDB's, which PostgreSQL then mirrors. A
process that took one for the other would let two histories begin."""

import asyncio
import logging

import psycopg
from psycopg_pool import AsyncConnectionPool

from eventstore.database.postgres import connect
from runtime.settings import Settings

logger = logging.getLogger(__name__)

_IS_MIRROR = "SELECT FROM log.mirror"
_LAST = """
SELECT position, stream_id, version, event_id FROM log.events ORDER BY position DESC LIMIT 1
"""

_A_MIRROR = (
    "this database mirrors KurrentDB, which has the log: set LUDOTECA_KURRENTDB_URL, or let"
    " PostgreSQL go on alone by `ludoteca log copy --from kurrentdb --to postgresql`"
)

SECONDS = 5.0
"""How long KurrentDB may take to answer."""


class WrongLog(Exception):
    """The settings name another log than the one that has the events. The message says what to
    do."""


def check_log_of_record(settings: Settings, url: str) -> None:
    """Refuse a PostgreSQL whose events KurrentDB lacks, and one that mirrors KurrentDB without it.
    For a KurrentDB that does not answer, the mirror waits. Raises WrongLog, psycopg.Error."""
    with connect(url, "ludoteca") as conn:
        if settings.mirrored:
            _check_kurrentdb(settings.kurrentdb, conn)
        elif conn.execute(_IS_MIRROR).fetchone() is not None:
            raise WrongLog(_A_MIRROR)


async def refuse_mirror(pool: AsyncConnectionPool) -> None:
    """Raises WrongLog for a database that mirrors KurrentDB: nothing may be appended to it
    directly."""
    async with pool.connection() as conn:
        if await (await conn.execute(_IS_MIRROR)).fetchone() is not None:
            raise WrongLog(_A_MIRROR)


def _check_kurrentdb(url: str, conn: psycopg.Connection) -> None:
    from adapters.kurrentdb.lookup import has_event  # slow to import

    last = conn.execute(_LAST).fetchone()
    if last is None:
        return
    position, *event = last
    try:
        found = asyncio.run(has_event(url, *event, seconds=SECONDS))
    except ConnectionError as error:
        logger.warning("%s", error)
        return
    if not found:
        raise WrongLog(
            f"PostgreSQL has events up to position {position} that the KurrentDB of"
            " LUDOTECA_KURRENTDB_URL lacks: `ludoteca log copy --from postgresql --to kurrentdb`"
            " copies them there"
        )
