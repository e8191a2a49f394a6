"""Rows as of a moment: fold only the streams that feed them, up to a position or a time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from eventstore.log import Recorded
from projections.projection import Key, Projection


class StreamReader(Protocol):
    """What as-of needs of the log."""

    async def read_stream(
        self, stream_id: UUID, after_version: int = 0, *, upto: int | None = None
    ) -> list[Recorded]: ...

    async def read(
        self, after: int = 0, *, upto: int | None = None, names: Sequence[str] | None = None, limit: int = 1000
    ) -> list[Recorded]: ...


async def row_as_of(
    log: StreamReader, projection: Projection[Any], key: Key, moment: int | datetime
) -> msgspec.Struct | None:
    """The row of a key as it was at a log position or a time; None when it was not there."""
    rows = projection.fold(await _events(log, projection.streams_of(key), moment))
    found: msgspec.Struct | None = rows.get(key)
    return found


async def _events(log: StreamReader, streams: Sequence[UUID] | None, moment: int | datetime) -> list[Recorded]:
    upto = moment if isinstance(moment, int) else None
    if streams is None:
        events = await _all_events(log, upto)
    else:
        found = [await log.read_stream(stream_id, upto=upto) for stream_id in dict.fromkeys(streams)]
        events = [event for stream in found for event in stream]
    if isinstance(moment, datetime):
        events = [event for event in events if event.env.recorded_at <= moment]
    return sorted(events, key=lambda event: event.env.position)


async def _all_events(log: StreamReader, upto: int | None) -> list[Recorded]:
    events: list[Recorded] = []
    while page := await log.read(events[-1].env.position if events else 0, upto=upto):
        events += page
    return events
