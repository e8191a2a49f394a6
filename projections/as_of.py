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


async def row_as_of(
    log: StreamReader, projection: Projection[Any], key: Key, moment: int | datetime
) -> msgspec.Struct | None:
    """The row of a key as it was at a log position or a time; None when it was not there."""
    rows = projection.fold(await _events(log, projection.streams_of(key), moment))
    found: msgspec.Struct | None = rows.get(key)
    return found


async def _events(log: StreamReader, streams: Sequence[UUID], moment: int | datetime) -> list[Recorded]:
    upto = moment if isinstance(moment, int) else None
    events = [event for stream_id in dict.fromkeys(streams) for event in await log.read_stream(stream_id, upto=upto)]
    if isinstance(moment, datetime):
        events = [event for event in events if event.env.recorded_at <= moment]
    return sorted(events, key=lambda event: event.env.position)
