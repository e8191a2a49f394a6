"""How events are to be read instead of as they were recorded.

An event that no fold can apply stays in the log for ever, and nothing in it can be changed. So an
operator declares, by a further event, that it is to be skipped, or with which payload it is to be
read. All who fold read it so: the log as of a position consists of the events up to there, each
read by the latest declaration up to there. So the rows at a position are the same however they came
about.

Declarations are few and have one stream, which is read as a whole.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Literal
from uuid import UUID

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from eventstore.history import History

logger = logging.getLogger(__name__)

STREAM = UUID("3d2f5c8e-6c3b-5a53-9d0e-5b2f0c8f4a11")
"""The stream of all declarations."""

LOOK_SECONDS = 1.0
"""How soon a process knows of a new declaration."""

READ = """
SELECT position, version, payload, event_id FROM log.events WHERE stream_id = %s AND version > %s
ORDER BY version
"""


class Declared(msgspec.Struct, frozen=True):
    """How an event is to be read: as it was recorded after all, not at all, or with this payload in
    place of its own, in the form in which payloads are stored."""

    position: int
    stream_id: UUID
    name: str
    reading: Literal["as_recorded", "skip", "amend"]
    payload: str | None = None


class Amendments:
    """The declarations up to some position of the log."""

    def __init__(
        self,
        declared: Sequence[tuple[int, Declared]] = (),
        version: int = 0,
        last: UUID | None = None,
    ) -> None:
        """`declared` are declarations with the positions of their events, in order; `version` is
        that of their stream, and `last` the id of its last event."""
        self.version = version
        self.last = last
        self._declared = declared
        latest = {each.position: each for _, each in declared}
        self._payloads = {
            position: None if each.payload is None else each.payload.encode()
            for position, each in latest.items()
            if each.reading != "as_recorded"
        }

        self._streams = {each.stream_id: at for at, each in declared}

    def __bool__(self) -> bool:
        """Whether any event is to be read otherwise."""
        return bool(self._payloads)

    @property
    def upto(self) -> int:
        """The position of the latest declaration, 0 without any."""
        return self._declared[-1][0] if self._declared else 0

    @property
    def payloads(self) -> Mapping[int, bytes | None]:
        """By position, the payloads of the events that are to be read otherwise; None for one that
        is to be skipped."""
        return self._payloads

    def as_of(self, position: int) -> "Amendments":
        """Only those declared up to a position."""
        if position >= self.upto:
            return self
        return Amendments([each for each in self._declared if each[0] <= position])

    def declared_at(self, position: int) -> int | None:
        """The position of the declaration by which the event at this position is read; None for one
        that is read as it was recorded."""
        if position not in self._payloads:
            return None
        return next(at for at, each in reversed(self._declared) if each.position == position)

    def since(self, position: int) -> list[Declared]:
        """What was declared after a position."""
        return [each for at, each in self._declared if at > position]

    def about(self, stream_id: UUID) -> int:
        """The position of the latest declaration about an event of this stream, 0 without any."""
        return self._streams.get(stream_id, 0)

    def with_rows(self, rows: Sequence[tuple[int, int, bytes, UUID]]) -> "Amendments":
        """Together with further events of the stream: their rows of READ."""
        if not rows:
            return self
        more = [(at, each) for at, _, payload, _ in rows if (each := _declared(at, payload))]
        _, version, _, last = rows[-1]
        return Amendments([*self._declared, *more], version, last)


NONE = Amendments()


def load(conn: psycopg.Connection) -> Amendments:
    """All declarations."""
    return NONE.with_rows(conn.cursor(binary=True).execute(READ.encode(), (STREAM, 0)).fetchall())


def _declared(at: int, payload: bytes) -> Declared | None:
    try:
        return msgspec.json.decode(payload, type=Declared)
    except msgspec.MsgspecError as error:
        # It is not there for the others: whatever reads the log would otherwise stand still.
        logger.error("the amendment at position %s cannot be read: %s", at, error)
        return None


class KnownAmendments:
    """What one process knows of them: at most LOOK_SECONDS old. Used from one event loop only."""

    def __init__(self, pool: AsyncConnectionPool, history: History) -> None:
        self.now = NONE
        self._pool = pool
        self._history = history
        self._looked = float("-inf")
        self._looking = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []
        history.when_it_changes(self._forget)

    def when_they_change(self, listener: Callable[[], None]) -> None:
        """Register a callback, called after they have changed. It must not fail."""
        self._listeners.append(listener)

    async def current(self) -> Amendments:
        """Those declared up to a moment ago. Raises psycopg.Error."""
        if monotonic() - self._looked > LOOK_SECONDS:
            await self.look()
        return self.now

    async def look(self) -> None:
        """Read what was declared since the last look."""
        asked = monotonic()
        async with self._looking:
            if self._looked > asked:  # by somebody else, while this waited
                return
            began = monotonic()
            while True:
                generation = self._history.generation
                async with self._pool.connection() as conn:
                    cursor = conn.cursor(binary=True)
                    await cursor.execute(READ.encode(), (STREAM, self.now.version), prepare=True)
                    rows = await cursor.fetchall()
                if generation == self._history.generation:  # else it went back meanwhile
                    break
            self._looked = began
            if rows:
                self.now = self.now.with_rows(rows)
                self._tell()

    def _forget(self) -> None:
        """The log went back: some may be gone."""
        self._looked = float("-inf")
        self.now = NONE
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
