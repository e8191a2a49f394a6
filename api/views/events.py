"""Views of events of the log."""

from typing import Any
from uuid import UUID

from api.fields import Answer, Time


class EventView(Answer):
    """An event with its envelope; personal fields stay encrypted. `occurred_at` is the time of the
    decision, by the deciding process's clock. `recorded_at` is the log's own time, which never runs
    backwards."""

    position: int
    event_id: UUID
    stream_id: UUID
    version: int
    name: str
    recorded_at: Time
    occurred_at: Time
    actor: str
    correlation_id: UUID | None
    causation_id: UUID | None
    traceparent: str | None
    payload: dict[str, Any]


class CauseView(Answer):
    """An event, and who caused it by which request."""

    position: int
    event_id: UUID
    stream_id: UUID
    version: int
    name: str
    occurred_at: Time
    actor: str
    correlation_id: UUID | None
    causation_id: UUID | None
    traceparent: str | None
