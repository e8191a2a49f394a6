"""What the console's pages read of the API's answers; fields that no page shows are left out."""

from datetime import datetime
from typing import Any

import msgspec

from web.api_client import Listed


class Event(msgspec.Struct, frozen=True):
    """An event of the log; `payload` is empty where it was not asked for."""

    position: int
    event_id: str
    stream_id: str
    version: int
    name: str
    occurred_at: datetime
    actor: str
    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None
    recorded_at: datetime | None = None
    payload: dict[str, Any] = msgspec.field(default_factory=dict)


class EventDetails(Event, frozen=True):
    kind: str = ""
    meaning: str = ""
    personal_fields: list[str] = msgspec.field(default_factory=list)
    amended_at: int | None = None


class LogPage(Listed[Event], frozen=True):
    """Events, newest first, and the positions that were looked at: `searched_after` + 1 up to
    `searched_upto`."""

    searched_after: int = 0
    searched_upto: int = 0


class Disclosed(msgspec.Struct, frozen=True):
    fields: dict[str, Any]


class Batch(msgspec.Struct, frozen=True):
    """Events that were appended, in order."""

    type: str
    items: list[Event]
    position: int
    left_out: bool


class Stop(msgspec.Struct, frozen=True):
    """An event that cannot be applied."""

    stream_id: str
    position: int
    name: str
    error: str


class State(msgspec.Struct, frozen=True):
    """The state of a stream at a version."""

    stream_id: str
    kind: str
    version: int
    position: int
    state: dict[str, Any]
    stopped_by: Stop | None


class ReadModel(msgspec.Struct, frozen=True):
    model: str
    key: list[str]
    fields: list[str]


class StepHead(msgspec.Struct, frozen=True):
    number: int
    position: int
    name: str
    changed: bool


class Step(msgspec.Struct, frozen=True):
    """A row before and after an event."""

    model: str
    key: str
    number: int
    count: int
    event: Event
    amended_at: int | None
    before: Any
    after: Any
    steps: list[StepHead]
    stopped_by: list[Stop]


# -- flows -----------------------------------------------------------------------------------------


class TracedStream(msgspec.Struct, frozen=True):
    stream_id: str
    kind: str
    version: int
    status: str | None


class Consumer(msgspec.Struct, frozen=True):
    feed: str
    position: int
    paused: bool


class Held(msgspec.Struct, frozen=True):
    id: str
    feed: str
    stream_id: str
    position: int
    name: str
    error: str


class Refusal(msgspec.Struct, frozen=True):
    feed: str
    position: int
    code: str
    detail: str
    at: datetime


class Job(msgspec.Struct, frozen=True):
    id: str
    kind: str
    queue: str
    state: str
    attempts: int
    max_attempts: int
    due_at: datetime | None
    error: str


class Deadline(msgspec.Struct, frozen=True):
    kind: str
    due_at: datetime


class Flow(msgspec.Struct, frozen=True):
    """What a request set in motion, and what it waits for."""

    asked: str
    kind: str
    requests: list[str]
    streams: list[TracedStream]
    events: list[Event]
    left_out: int
    consumers: list[Consumer]
    quarantine: list[Held]
    refusals: list[Refusal]
    jobs: list[Job]
    unseen_jobs: dict[str, int]
    unanswered: dict[str, str]
    deadlines: list[Deadline]
    waits_for: list[str]


# -- the overview ----------------------------------------------------------------------------------


class ConsumerFigures(msgspec.Struct, frozen=True):
    feed: str
    lag: int
    seconds: float
    parked: int
    astray: bool

    @property
    def needs_a_look(self) -> bool:
        """Whether it is behind, astray, or has streams in quarantine."""
        return bool(self.lag or self.parked or self.astray)


class QueueFigures(msgspec.Struct, frozen=True):
    queue: str
    depth: int | None
    oldest_seconds: float | None
    dead: int | None


class OpenAlert(msgspec.Struct, frozen=True):
    alert_id: str
    name: str
    severity: str
    summary: str
    status: str
    raised_at: datetime


class Overview(msgspec.Struct, frozen=True):
    """How the shop is right now."""

    at: datetime
    head: int
    events_per_second: float | None
    requests: int
    failed_requests: int
    requests_per_second: float | None
    in_flight: int
    sockets: int
    consumers: list[ConsumerFigures]
    queues: list[QueueFigures]
    deadlines_due: int | None
    deadlines_late_seconds: float | None
    open_findings: dict[str, int]
    alerts: list[OpenAlert] | None = None

    @property
    def lag(self) -> int:
        """How many events the consumer that is furthest behind has to read."""
        return max((each.lag for each in self.consumers), default=0)

    @property
    def lag_seconds(self) -> float:
        """The longest time, in seconds, that an event has waited for a consumer."""
        return max((each.seconds for each in self.consumers), default=0.0)

    @property
    def parked(self) -> int:
        """Streams in quarantine."""
        return sum(each.parked for each in self.consumers)

    @property
    def jobs(self) -> int:
        """Jobs that wait or run, in the queues that answer."""
        return sum(each.depth or 0 for each in self.queues)

    @property
    def dead(self) -> int:
        """Dead letters, in the queues that answer."""
        return sum(each.dead or 0 for each in self.queues)

    @property
    def silent_queues(self) -> list[str]:
        """Queues that do not answer."""
        return [each.queue for each in self.queues if each.depth is None]
