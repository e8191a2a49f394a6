"""The history that a process knows, and what it drops when the log turns out to have another.

A database may go back: it is restored to an earlier moment, or an asynchronous standby takes over
without the last events. Positions, versions and states that a process remembers of lost events
would then be mistaken for those of the events that replaced them. So a process remembers the last
event it has seen, and checks with each new connection and each look at the log's end that this
event is still at its position. An event's id is never reused, and an event has the same
predecessors for ever: if it is there, everything known before it still holds.

Whatever keeps something derived from the log registers here, and is called to drop it.
"""

import logging
from collections.abc import Callable
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec
import psycopg

from eventstore.database.pooled import prove

logger = logging.getLogger(__name__)

LOOK = "SELECT epoch, epoch_id, epoch_position, head, last, there FROM log.look(%s)"
_HEAD = """
SELECT last.position, last.event_id, (SELECT event_id FROM log.events WHERE position = %s)
FROM (SELECT) AS one
LEFT JOIN (SELECT position, event_id FROM log.events ORDER BY position DESC LIMIT 1) AS last ON true
"""
BEGIN = "SELECT (log.begin_epoch(%s, %s)).number"


class HistoryChanged(Exception):
    """The log no longer has the history in which a position was read."""


class Mark(msgspec.Struct, frozen=True):
    """The last event seen: position and id."""

    position: int = 0
    event_id: UUID | None = None


class Look(msgspec.Struct, frozen=True):
    """The result of `log.look`: the latest epoch and where it began, the log's last event, and the
    event at the mark."""

    epoch: int
    epoch_id: str
    epoch_position: int
    head: int
    last: UUID | None
    there: UUID | None


class Epoch(msgspec.Struct, frozen=True):
    """An unbroken stretch of the log's history; it began after the event at `position`."""

    number: int
    id: str
    position: int

    @property
    def label(self) -> str:
        """Identifies the epoch among all that ever were, including lost ones."""
        return f"{self.number}.{self.id}"


class History:
    """What one process knows. Used from one event loop only."""

    def __init__(self) -> None:
        self.generation = 0
        """How often the history changed. What was read in an earlier generation is void."""
        self._mark = Mark()
        self._epoch = 0
        self._forget: list[Callable[[], None]] = []
        self._connections: WeakKeyDictionary[psycopg.AsyncConnection, int] = WeakKeyDictionary()

    def when_it_changes(self, forget: Callable[[], None]) -> None:
        """Register a callback for changes of history, called before anything is done on the new
        one. It must not fail."""
        self._forget.append(forget)

    def must_be(self, generation: int) -> None:
        """Raises HistoryChanged unless this generation is the current one."""
        if self.generation != generation:
            raise HistoryChanged("the log went back: what was read of it before is void")

    def saw(self, position: int, event_id: UUID, generation: int) -> None:
        """Remember the last event seen, if it is later than all before and was read in the current
        generation."""
        if position > self._mark.position and generation == self.generation:
            self._mark = Mark(position, event_id)

    @property
    def mark(self) -> Mark:
        """The last event seen."""
        return self._mark

    # -- connections -------------------------------------------------------------------------------

    async def head(self, conn: psycopg.AsyncConnection) -> int:
        """The position where the log ends; checks the history in passing. Raises psycopg.Error."""
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
        """Check the history over a new connection, in one round trip. Raises psycopg.Error.

        If it changed, all registered callbacks have run when this returns.
        """
        mark, generation = self._mark, self.generation
        row = await (await conn.execute(LOOK, (mark.position,))).fetchone()
        assert row is not None
        look = Look(*row)
        if generation != self.generation:  # another connection found out meanwhile: check again
            await self.check(conn)
            return
        if mark.position and look.there != mark.event_id:
            number = await (
                await conn.execute(BEGIN, (self._epoch, _reason(mark, look)))
            ).fetchone()
            if generation != self.generation:
                await self.check(conn)
                return
            self._change(mark, look, number[0] if number else look.epoch)
        self._epoch = max(self._epoch, look.epoch)
        if look.last is not None:
            self.saw(look.head, look.last, self.generation)
        self._connections[conn] = self.generation

    def knows(self, conn: psycopg.AsyncConnection) -> bool:
        """Whether a connection was checked in the current history: an older one may lead to a
        replaced server."""
        return self._connections.get(conn) == self.generation

    async def alive(self, conn: psycopg.AsyncConnection) -> None:
        """A pool's check. Raises psycopg.OperationalError for a lost connection, or one from
        another history."""
        await prove(conn)
        if not self.knows(conn):
            conn.pgconn.finish()  # a pool keeps what fails its check, unless it is closed
            raise psycopg.OperationalError("the connection is of another history")

    def _change(self, mark: Mark, look: Look, epoch: int) -> None:
        logger.error("the log has another history (epoch %s): %s", epoch, _reason(mark, look))
        self.generation += 1
        self._mark = Mark()
        self._epoch = epoch
        for forget in self._forget:
            forget()


def _reason(mark: Mark, look: Look) -> str:
    if look.head < mark.position:
        return f"the log ends at position {look.head}, and went as far as {mark.position}"
    return f"another event is at position {mark.position} than there was"
