"""The states that appends in flight will leave. Only decisions rest on them, never a query."""

from typing import Any
from uuid import UUID

import msgspec

from eventstore.aggregate import Aggregate
from eventstore.flight import Flight


class StateAhead(msgspec.Struct, frozen=True):
    """The version and state of a stream once an append has landed."""

    aggregate: Aggregate[Any]
    version: int
    state: Any
    flight: Flight


class StatesAhead:
    """By stream, each resting on the one before. Used from one event loop only."""

    def __init__(self) -> None:
        self._streams: dict[UUID, list[StateAhead]] = {}

    def newest(self, stream_id: UUID) -> StateAhead | None:
        """The state after all appends in flight; None when there are none."""
        states = self._streams.get(stream_id)
        return None if states is None else states[-1]

    def add(self, stream_id: UUID, state: StateAhead) -> None:
        """An append has departed that rests on the newest state."""
        self._streams.setdefault(stream_id, []).append(state)

    def end(self, stream_id: UUID, flight: Flight) -> None:
        """Drop what a flight's outcome has made needless: up to its state when it landed, from its
        state on when it failed."""
        states = self._streams.get(stream_id, [])
        for n, state in enumerate(states):
            if state.flight is flight:
                left = states[n + 1 :] if flight.landed else states[:n]
                if left:
                    self._streams[stream_id] = left
                else:
                    del self._streams[stream_id]
                return

    def clear(self) -> None:
        """Drop everything: the log has another history."""
        self._streams.clear()
