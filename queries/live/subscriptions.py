"""Live status changes for people: one tail of the log per process, however many listeners.

The tail only finds out whose stream an event belongs to, and wakes that person's listeners. Each
listener then reads changes from its own position of the log. So a slow listener needs no buffer,
and to catch up from an old position is the same as to follow live.

Nobody misses a change: the tail knows of a new listener before the person's streams are looked up.
So the look-up finds the streams that began before, and the tail those that begin after.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import UUID

from eventstore.database.postgres import AWAY
from eventstore.decoding import Raw
from eventstore.history import HistoryChanged
from eventstore.log import LogUnavailable
from eventstore.postgres_log import RETRY_SECONDS, PostgresLog
from kit.background import background_task
from kit.cancellation import stop_if_cancelled
from queries.engine.positions import PositionUnknown
from queries.engine.read_models import ReadModels
from queries.live.status_changes import StatusChange, StatusChanges, beginning_of

logger = logging.getLogger(__name__)


PAGE = 1000
"""How many events the tail reads at once."""


class TooManyListeners(Exception):
    """The person has the maximal number of listeners."""


class Listener:
    """A person's listener, at a position of the log. `head` is where the log ended when it
    began."""

    def __init__(self, changes: StatusChanges) -> None:
        self._changes = changes
        self._moved: set[UUID] = set()
        self._upto = 0
        self._woken = asyncio.Event()
        self._failure: Exception | None = None
        self.position = self.head = 0

    async def news(self) -> list[StatusChange]:
        """Wait for the next changes after `position`, in log order, and move `position` behind
        them.

        Raises LogUnavailable once the log is closed, HistoryChanged when it went back,
        psycopg.OperationalError while the database is away.
        """
        while True:
            stop_if_cancelled()
            await self._woken.wait()
            if self._failure is not None:
                raise self._failure
            changes: list[StatusChange] = []
            if self.position < self._upto:
                page = await self._changes.page(self._moved, self.position, self._upto)
                self.position = page.reached
                changes = page.changes
            if self.position >= self._upto:
                self._moved.clear()
                self._woken.clear()
            if changes:
                return changes

    # -- for the tail ------------------------------------------------------------------------------

    def begin(self, after: int | None, head: int, stream_ids: Iterable[UUID]) -> None:
        """Listen from a position on, by default from the log's end. `stream_ids` are all streams of
        the person at `head`."""
        self.position = head if after is None else after
        self.head = head
        self.move(stream_ids, head)

    def move(self, stream_ids: Iterable[UUID], position: int) -> None:
        """Note that these streams have events up to this position."""
        self._moved.update(stream_ids)
        self._upto = position
        self._woken.set()

    def fail(self, error: Exception) -> None:
        """End the listener with an error."""
        self._failure = error
        self._woken.set()


class _Person:
    """A person with listeners, and their known streams."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self.stream_ids: set[UUID] = set()


class LiveStatus:
    """The listeners of a process, and the tail that wakes them. The tail runs while there are
    listeners."""

    def __init__(self, log: PostgresLog, reads: ReadModels) -> None:
        self._log = log
        self._changes = StatusChanges(log, reads)
        self._people: dict[UUID, _Person] = {}
        self._owners: dict[UUID, _Person] = {}
        """By stream, the person with listeners who owns it."""
        self._position = 0
        self._tail: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def listening(
        self, user_id: UUID, after: int | None, *, at_most: int
    ) -> AsyncIterator[Listener]:
        """Listen for changes of a person's orders, payments and carts, after a position or from now
        on.

        Raises PositionUnknown when the log ends before it, TooManyListeners, ReadModelBehind.
        """
        await self._follow_from_now()
        person = self._people.setdefault(user_id, _Person())
        if len(person.listeners) >= at_most:
            raise TooManyListeners
        listener = Listener(self._changes)
        person.listeners.add(listener)
        try:
            known = await self._changes.streams_of(user_id, self._position)
            if (
                after is not None
                and after > self._position
                and after > (head := await self._log.head())
            ):
                raise PositionUnknown(after, head)
            self._own(person, known)
            listener.begin(after, self._position, person.stream_ids)
            yield listener
        finally:
            person.listeners.remove(listener)
            await self._forget(user_id, person)

    def _own(self, person: _Person, stream_ids: Iterable[UUID]) -> None:
        for stream_id in stream_ids:
            person.stream_ids.add(stream_id)
            self._owners[stream_id] = person

    async def _forget(self, user_id: UUID, person: _Person) -> None:
        """Forget the person when their last listener is gone."""
        if person.listeners:
            return
        del self._people[user_id]
        for stream_id in person.stream_ids:
            self._owners.pop(stream_id, None)
        if not self._people and self._tail is not None:
            tail = self._tail
            self._tail = None
            tail.cancel()
            await asyncio.gather(tail, return_exceptions=True)

    # -- the tail ----------------------------------------------------------------------------------

    async def _follow_from_now(self) -> None:
        """Start the tail unless it runs."""
        if self._tail is None or self._tail.done():
            generation, head = self._log.history.generation, await self._log.head()
            if self._tail is None or self._tail.done():  # no other caller started it
                self._position = head
                self._tail = background_task(self._follow(generation), "live-status")

    async def _follow(self, generation: int) -> None:
        """Run the tail; survives lost connections. When it cannot go on, it ends the listeners, who
        come again."""
        try:
            while True:
                stop_if_cancelled()
                try:
                    await self._pass_on(await self._log.watcher.beyond(self._position, generation))
                except AWAY:
                    await asyncio.sleep(RETRY_SECONDS)
        except Exception as error:
            if not isinstance(error, LogUnavailable | HistoryChanged):
                logger.exception("live status ends at position %s", self._position)
            for person in self._people.values():
                for listener in person.listeners:
                    listener.fail(error)

    async def _pass_on(self, head: int) -> None:
        found, end = await self._log.read_page(
            self._position, head, names=self._changes.watched, limit=PAGE
        )
        stop_if_cancelled()  # another tail may have begun
        for raw in found:
            self._route(raw)
        self._position = end

    def _route(self, raw: Raw) -> None:
        env = raw[0]
        if env.name in self._changes.beginnings:
            beginning = beginning_of(raw)
            person = self._people.get(beginning.owner) if beginning else None
            if beginning and person:
                self._own(person, beginning.stream_ids)
        owner = self._owners.get(env.stream_id)
        if owner is not None:
            for listener in owner.listeners:
                listener.move((env.stream_id,), env.position)
