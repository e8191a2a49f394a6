"""What is known of a flow: its streams, and all that works on it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from commands.ports.queue import JobState
from eventstore.consumers.quarantine import Quarantined
from eventstore.log import Envelope
from projections.models.deadlines import Deadline


class TracedStream(msgspec.Struct, frozen=True):
    """A stream in the flow. `status` is None where its kind has none, or it cannot be folded."""

    stream_id: UUID
    kind: str
    version: int
    status: str | None


class Refusal(msgspec.Struct, frozen=True):
    """A reaction to an event that a rule refused: an outcome, which is not tried again."""

    feed: str
    event_id: UUID
    position: int
    stream_id: UUID
    code: str
    detail: str
    at: datetime


class Consumer(msgspec.Struct, frozen=True):
    """A consumer of the log: whether it has read the flow's last event."""

    feed: str
    position: int
    passed: bool
    paused: bool
    updated_at: datetime


class Trace(msgspec.Struct, frozen=True):
    """A flow, in all streams and queues. `waits_for` is empty when it is done. `unanswered` are
    queues that could not be asked, `unseen_jobs` how many jobs a broker does not show, by queue.
    `left_out` counts further events, which were too many."""

    asked: str
    kind: str
    requests: Sequence[UUID]
    streams: Sequence[TracedStream]
    events: Sequence[Envelope]
    left_out: int
    consumers: Sequence[Consumer]
    quarantine: Sequence[Quarantined]
    refusals: Sequence[Refusal]
    jobs: Sequence[JobState]
    unseen_jobs: Mapping[str, int]
    unanswered: Mapping[str, str]
    deadlines: Sequence[Deadline]
    waits_for: Sequence[str]
