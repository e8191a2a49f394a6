"""Test decisions: given these events, when this is decided, then these events or this refusal."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import reduce
from typing import Generic, TypeVar
from uuid import UUID, uuid5

import pytest

from domain.errors import Refused
from domain.events import Event

S = TypeVar("S")
Evolve = Callable[[S | None, Event], S | None]

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def an_id(name: str) -> UUID:
    """An id derived from a name."""
    return uuid5(UUID(int=0), name)


def fold(evolve: Evolve[S], *events: Event) -> S:
    """The state after these events."""
    state: S | None = reduce(evolve, events, None)
    assert state is not None
    return state


class Given(Generic[S]):
    """A state, folded from events."""

    def __init__(self, evolve: Evolve[S], *events: Event) -> None:
        self.state = fold(evolve, *events)

    def when(self, decide: Callable[[S], list[Event]]) -> "When":
        """Prepare a decision on that state."""
        return When(lambda: decide(self.state))


class When:
    """A decision that is made only by the expectation that follows."""

    def __init__(self, decide: Callable[[], list[Event]]) -> None:
        self._decide = decide

    def then(self, *expected: Event) -> None:
        """Expect exactly these events."""
        assert self._decide() == list(expected)

    def decided(self) -> list[Event]:
        """The events of the decision."""
        return self._decide()

    def then_nothing(self) -> None:
        """Expect no event and no refusal."""
        self.then()

    def then_refused(self, kind: type[Refused], code: str) -> Refused:
        """Expect this refusal."""
        with pytest.raises(Refused) as refused:
            self._decide()
        assert (type(refused.value), refused.value.code) == (kind, code)
        return refused.value


def given(evolve: Evolve[S], *events: Event) -> Given[S]:
    """A state folded from these events."""
    return Given(evolve, *events)


def when(decide: Callable[[], list[Event]]) -> When:
    """Prepare a decision without a state."""
    return When(decide)
