"""A kind of stream: how its events fold into a state, and the errors of its own."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from eventstore.decoding import SKIPPED

S_co = TypeVar("S_co", covariant=True)


class NoSuchStream(LookupError):
    """The stream does not exist, and its kind has no error of its own for that."""


class UnexpectedVersion(Exception):
    """The stream is at another `version` than expected, and its kind has no error of its own for
    that."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the stream is at version {version}")
        self.version = version


class Aggregate(msgspec.Struct, Generic[S_co], frozen=True):
    """A kind of stream, and how its events fold into a state. `kind` is that of its events
    (`eventstore.codec.kind_of`).

    A snapshot is taken every `snapshot_every` versions, large ones more rarely (0: never). It is
    `sealed` when the state has personal fields, all of which must belong to the stream's own
    person. `schema` identifies the state's shape, so that a snapshot of an older release is not
    read. `ignores` are events that do not affect the state, and are not read.

    `missing` makes the error for a stream that does not exist, `stale` the one for a stream that is
    at this version instead of the expected one. Each call makes a new error: an exception that is
    raised twice keeps both tracebacks.
    """

    kind: str
    state: type[S_co]
    evolve: Callable[[Any, Any], S_co | None]
    snapshot_every: int = 0
    schema: int = 1
    sealed: bool = False
    ignores: tuple[type[msgspec.Struct], ...] = ()
    missing: Callable[[], Exception] = NoSuchStream
    stale: Callable[[int], Exception] = UnexpectedVersion

    @property
    def unread(self) -> list[str]:
        """The names of the ignored events."""
        return [event.NAME for event in self.ignores]  # type: ignore[attr-defined]

    def fold(self, state: Any, events: Sequence[msgspec.Struct]) -> S_co | None:
        """The state (None before the first event) after these events."""
        for event in events:
            if event is not SKIPPED:
                state = self.evolve(state, event)
        return state  # type: ignore[no-any-return]
