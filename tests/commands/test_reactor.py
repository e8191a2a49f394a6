"""The outcomes of a reaction: a refusal is one, a log that contradicts itself is a failure."""

from datetime import UTC, datetime
from typing import ClassVar
from uuid import uuid4

import pytest

from commands.aggregates import ORDER
from commands.reactors.reactor import Contradiction, Reactor
from domain.errors import Conflict
from domain.events import Event
from eventstore.log import Envelope, Recorded


class Happened(Event, frozen=True):
    NAME: ClassVar[str] = "test.happened.v1"


HAPPENED = Recorded(
    Envelope(
        position=1,
        event_id=uuid4(),
        stream_id=uuid4(),
        version=1,
        name=Happened.NAME,
        recorded_at=datetime(2026, 1, 1, tzinfo=UTC),
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
        actor="test",
        correlation_id=None,
        causation_id=None,
    ),
    Happened(),
)


def _failing(error: Exception) -> Reactor:
    async def react(_event: Happened, _env: Envelope) -> None:
        raise error

    return Reactor("failing", {Happened: react})


async def test_a_refusal_is_passed_on() -> None:
    with pytest.raises(Conflict):
        await _failing(Conflict("order_cancelled")).react(HAPPENED)


async def test_what_an_event_is_about_has_to_be_in_the_log() -> None:
    with pytest.raises(Contradiction, match="order_not_found"):
        await _failing(ORDER.missing()).react(HAPPENED)
