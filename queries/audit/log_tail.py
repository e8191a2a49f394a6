"""Following the log: events as they are appended."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import msgspec

from eventstore.postgres_log import PostgresLog
from kit.cancellation import stop_if_cancelled
from queries.audit.log import AuditEvent
from queries.audit.log_search import LogSearch, Wanted
from queries.engine.positions import PositionUnknown

MAX_EVENTS = 100
"""The most events of a batch: whoever follows with their eyes does not read more."""

PAUSE_SECONDS = 0.25
"""The least time between two batches."""


class Batch(msgspec.Struct, frozen=True):
    """Events of the log up to a position, in order. `left_out`: there were older ones, too."""

    items: list[AuditEvent]
    position: int
    left_out: bool
    type: Literal["events"] = "events"


async def tail(
    log: PostgresLog, search: LogSearch, wanted: Wanted, after: int
) -> AsyncIterator[Batch]:
    """Events after a position that match, as soon as they are appended, for ever.

    Raises PositionUnknown for a position that the log does not have, LogUnavailable once the log is
    closed, HistoryChanged when it went back.
    """
    generation = log.history.generation
    if after > (head := await log.head()):
        raise PositionUnknown(after, head)
    while True:
        stop_if_cancelled()
        head = await log.watcher.beyond(after, generation)
        found = await search.newest(wanted, after, head, limit=MAX_EVENTS)
        if found.items:
            yield Batch(found.items[::-1], head, left_out=not found.is_last)
        after = head
        await asyncio.sleep(PAUSE_SECONDS)
