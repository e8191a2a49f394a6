"""Rows as of a moment: fold only the streams that feed them, up to a position or a time.

The state at a time includes every event up to the last one that had occurred by then. So a row
looks the same at the time it shows as its own, a clock that was ahead for a moment hides no later
event, and no event is folded without those before it.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from eventstore.log import LogReader, Recorded, whole_stream
from projections.changes import WatchedFold
from projections.projection import Key, Projection, R, S, shown


async def row_as_of(
    log: LogReader, projection: Projection[R], key: Key, moment: int | datetime
) -> R | None:
    """The row of a key as it was at a log position or a time; None when it did not exist. As in the
    live read model, it has nothing of a stream from an event on that cannot be applied."""
    return (await fold_as_of(log, projection, projection.streams_of(key), moment)).get(key)


async def fold_as_of(
    log: LogReader,
    projection: Projection[R],
    streams: Sequence[UUID] | None,
    moment: int | datetime,
) -> WatchedFold[R]:
    """The events of these streams, or of the whole log, folded up to a moment."""
    fold = WatchedFold(projection)
    for recorded in await _events(log, streams, moment):
        fold.apply(recorded)
    return fold


async def shown_as_of(
    log: LogReader, projection: Projection[S], key: Key, moment: int | datetime
) -> S | None:
    """As `row_as_of`, without the internal fields."""
    row = await row_as_of(log, projection, key, moment)
    return None if row is None else shown(row)


async def _events(
    log: LogReader, streams: Sequence[UUID] | None, moment: int | datetime
) -> list[Recorded]:
    upto = moment if isinstance(moment, int) else None
    log = await log.as_of(upto)
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
    """The events, in log order, up to the last one that had occurred by a time."""
    last = max(
        (n for n, event in enumerate(events, 1) if event.env.occurred_at <= moment), default=0
    )
    return list(events[:last])


async def _all_events(log: LogReader, upto: int | None) -> list[Recorded]:
    events: list[Recorded] = []
    while page := await log.read(events[-1].env.position if events else 0, upto=upto):
        events += page
    return events
