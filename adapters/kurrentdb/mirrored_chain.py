"""The hash chain of the events in KurrentDB: what a mirror of them has."""

from collections.abc import Sequence
from datetime import datetime

from adapters.kurrentdb.wire import Copied
from eventstore.chain import GENESIS, digest, link


def digest_of(event: Copied) -> bytes:
    """The event's digest, as `eventstore.chain` defines it."""
    return digest(
        event.event_id,
        event.stream_id,
        event.version,
        event.name,
        event.payload,
        event.actor,
        event.correlation_id,
        event.causation_id,
        event.traceparent,
        event.occurred_at,
    )


def times_of(events: Sequence[Copied]) -> list[datetime]:
    """The times of whole appends' events: each has the time that KurrentDB gave its append's first
    event, or the one that it had in the log that it was copied from."""
    times: list[datetime] = []
    for event in events:
        at = event.recorded_at or (times[-1] if event.number else event.created)
        assert at is not None
        times.append(at)
    return times


class MirroredChain:
    """Computes the chain, as log.mirror_v1 does: a time that is before the previous event's is
    replaced by it."""

    def __init__(self) -> None:
        self.position = 0
        self.hash = GENESIS
        self._time: datetime | None = None

    def add(self, events: Sequence[Copied]) -> None:
        """Go on with the events of whole appends."""
        for event, at in zip(events, times_of(events), strict=True):
            self._time = at if self._time is None else max(self._time, at)
            self.position += 1
            self.hash = link(self.hash, self.position, self._time, digest_of(event))
