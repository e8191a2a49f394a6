"""The history that a process knows, and what it drops when the log turns out to have another.

A database may go back: it is restored to an earlier moment, or an asynchronous standby takes over without the last
events. Positions, versions and states that a process remembers of events that are gone would then be taken for those
of others, which have come in their place. So a process remembers the last event that it has seen, and asks at each new
connection, and at each look at the log's end, whether that is still at its position. An event's id is never used twice,
and an event has the same events before it for ever: if it is there, all that was known before it is as it was.

Whatever keeps something that follows from the log registers here, and is told to drop it.
"""

import logging
from collections.abc import Callable
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec
import psycopg

from eventstore.database.connections import prove

log = logging.getLogger(__name__)

LOOK = "SELECT epoch, epoch_id, epoch_position, head, last, there FROM log.look(%s)"
_HEAD = (
    "SELECT l.position, l.event_id, (SELECT event_id FROM log.events WHERE position = %s) FROM (SELECT) one"
    " LEFT JOIN (SELECT position, event_id FROM log.events ORDER BY position DESC LIMIT 1) l ON true"
)
BEGIN = "SELECT (log.begin_epoch(%s, %s)).number"


class HistoryChanged(Exception):
    """The log has another history than that in which a position was learned."""


class Mark(msgspec.Struct, frozen=True):
    """An event that was seen: where it was, and which."""

    position: int = 0
    event_id: UUID | None = None


class Look(msgspec.Struct, frozen=True):
    """What `log.look` answers: the latest epoch and where it began, the log's last event, and what is at the mark."""

    epoch: int
    epoch_id: str
    epoch_position: int
    head: int
    last: UUID | None
    there: UUID | None


class Epoch(msgspec.Struct, frozen=True):
    """A stretch of the log's history without a break: it began behind the event at `position`."""

    number: int
    id: str
    position: int

    @property
    def label(self) -> str:
        """Names it among all that there ever were, lost ones too."""
        return f"{self.number}.{self.id}"


class History:
    """What one process knows. All of it is used from one event loop."""

    def __init__(self) -> None:
        self.generation = 0
        """How often the log turned out to have another history. What was learned before it grew is void."""
        self._mark = Mark()
        self._epoch = 0
        self._forget: list[Callable[[], None]] = []
        self._connections: WeakKeyDictionary[psycopg.AsyncConnection, int] = WeakKeyDictionary()

    def when_it_changes(self, forget: Callable[[], None]) -> None:
        """Have this called, once for each change and before anything is done on the new history. It must not fail."""
        self._forget.append(forget)

    def must_be(self, generation: int) -> None:
        """Raises HistoryChanged unless the history is the one that it was."""
        if self.generation != generation:
            raise HistoryChanged("the log went back: what was read of it before is void")

    def saw(self, position: int, event_id: UUID, generation: int) -> None:
        """Remember the last event that was seen, if it is later than all before; it was read in that generation."""
        if position > self._mark.position and generation == self.generation:
            self._mark = Mark(position, event_id)

    @property
    def mark(self) -> Mark:
        """The last event that was seen."""
        return self._mark

    # -- connections ---------------------------------------------------------------------------------------------------

    async def head(self, conn: psycopg.AsyncConnection) -> int:
        """Where the log ends, and by the way whether it has the history that is known. Raises psycopg.Error."""
        while True:
            mark, generation = self._mark, self.generation
            row = await (await conn.execute(_HEAD, (mark.position,), prepare=True)).fetchone()
            assert row is not None
            position, last, found = row
            if mark.position and found != mark.event_id:
                await self.check(conn)
            if generation == self.generation:
                if last is not None:
                    self.saw(position, last, generation)
                return int(position or 0)

    async def check(self, conn: psycopg.AsyncConnection) -> None:
        """Ask over a new connection whether the history is the one that is known. One round trip. Raises psycopg.Error.

        When it is not, everything registered has forgotten by the time this returns.
        """
        mark, generation = self._mark, self.generation
        row = await (await conn.execute(LOOK, (mark.position,))).fetchone()
        assert row is not None
        look = Look(*row)
        if generation != self.generation:  # another connection found out meanwhile: ask again, from there
            await self.check(conn)
            return
        if mark.position and look.there != mark.event_id:
            number = await (await conn.execute(BEGIN, (self._epoch, _reason(mark, look)))).fetchone()
            if generation != self.generation:
                await self.check(conn)
                return
            self._change(mark, look, number[0] if number else look.epoch)
        self._epoch = max(self._epoch, look.epoch)
        if look.last is not None:
            self.saw(look.head, look.last, self.generation)
        self._connections[conn] = self.generation

    def knows(self, conn: psycopg.AsyncConnection) -> bool:
        """Whether a connection was checked in this history: an older one may lead to the server that was replaced."""
        return self._connections.get(conn) == self.generation

    async def alive(self, conn: psycopg.AsyncConnection) -> None:
        """For a pool: raises psycopg.OperationalError for a connection that is lost, or of another history."""
        await prove(conn)
        if not self.knows(conn):
            conn.pgconn.finish()  # a pool keeps what fails its check, unless it is closed
            raise psycopg.OperationalError("the connection is of another history")

    def _change(self, mark: Mark, look: Look, epoch: int) -> None:
        log.error("the log has another history (epoch %s): %s", epoch, _reason(mark, look))
        self.generation += 1
        self._mark, self._epoch = Mark(), epoch
        for forget in self._forget:
            forget()


def _reason(mark: Mark, look: Look) -> str:
    if look.head < mark.position:
        return f"the log ends at position {look.head}, and went as far as {mark.position}"
    return f"another event is at position {mark.position} than there was"
