"""Rows as of a moment: fold only the streams that feed them, up to a position or a time.

As it was at a time is: what had occurred by then, and all that stands before it in the log. So what
a row shows as its time is a time at which that row is as shown; a clock that was ahead for a moment
hides nothing that came after; and no event is left out from under another.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from eventstore.log import LogReader, Recorded, whole_stream
from projections.projection import Key, Projection, R, S, shown


async def row_as_of(
    log: LogReader, projection: Projection[R], key: Key, moment: int | datetime
) -> R | None:
    """The row of a key as it was at a log position or a time; None when it was not there."""
    return projection.fold(await _events(log, projection.streams_of(key), moment)).get(key)


async def shown_as_of(
    log: LogReader, projection: Projection[S], key: Key, moment: int | datetime
) -> S | None:
    """As `row_as_of`, as queries return it: without what is internal."""
    row = await row_as_of(log, projection, key, moment)
    return None if row is None else shown(row)


async def _events(
    log: LogReader, streams: Sequence[UUID] | None, moment: int | datetime
) -> list[Recorded]:
    upto = moment if isinstance(moment, int) else None
    if streams is None:
        events = await _all_events(log, upto)
    else:
        found = [
            await whole_stream(log, stream_id, upto=upto) for stream_id in dict.fromkeys(streams)
        ]
        events = [event for stream in found for event in stream]
    events.sort(key=lambda event: event.env.position)
    return events if isinstance(moment, int) else occurred_by(events, moment)


def occurred_by(events: Sequence[Recorded], moment: datetime) -> list[Recorded]:
    """Of events in the order of the log: up to the last that had occurred by a time."""
    last = max(
        (n for n, event in enumerate(events, 1) if event.env.occurred_at <= moment), default=0
    )
    return list(events[:last])


async def _all_events(log: LogReader, upto: int | None) -> list[Recorded]:
    events: list[Recorded] = []
    while page := await log.read(events[-1].env.position if events else 0, upto=upto):
        events += page
    return events
