"""A signed-in caller's queries reflect what that caller wrote, and what reactors made of it, in
whichever process they run (docs/decisions/0019-own-writes.md).

For the callers who wrote last, a process remembers how far each read model and each reactor has to
be: at the caller's last event that it folds or reacts to. A caller's events are those that the
caller caused, and those of a correlation that the caller began. The process reads on in the log
only when it has to: each query of a signed-in caller finds out, in its own statement, whether the
log has newer events of the caller. So a caller who wrote nothing costs no further statement, and no
process follows the log for this.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

import msgspec

from eventstore.aggregate import Aggregate
from eventstore.codec import Codec
from eventstore.history import Mark
from eventstore.postgres_log import PostgresLog
from projections.projection import Projection
from queries.engine.positions import MAX_SCANNED_EVENTS, SOON_POSITIONS, PositionWaiter

WAIT_TIMEOUT_SECONDS = 1.0
"""How long all queries of one request together wait for own writes."""

STALLED_SECONDS = 0.5
"""A consumer that has not moved for this long while somebody waited is not waited for until it
moves."""

MAX_READ_EVENTS = 10_000
"""The most events that a process reads at a time. Older ones have long been projected, or are too
far away to wait for."""

MAX_CALLERS, MAX_CORRELATIONS = 10_000, 20_000
"""How many callers and correlations are remembered, the latest ones: some 16 MB."""

MAX_LISTED, MAX_SHARING = 32, 8
"""How many correlations of one caller a query lists by id, and how many callers of one correlation
are told apart."""

_READ_ON = f"""
SELECT position, event_id, name, actor, correlation_id FROM log.events
WHERE position > greatest(%s, (SELECT max(position) FROM log.events) - {MAX_READ_EVENTS})
ORDER BY position LIMIT {MAX_READ_EVENTS}
"""


NOWHERE = Mark()
"""Before the first event."""


class ReactorScope(Protocol):
    """A reactor's events, and the aggregates that it may append to."""

    @property
    def name(self) -> str: ...

    @property
    def reactions(self) -> Collection[type[msgspec.Struct]]: ...

    @property
    def writes(self) -> Collection[Aggregate[Any]]: ...


class _Own(msgspec.Struct, eq=False):
    """One caller's last writes: for each read model and reactor the position of the last relevant
    event; the last of these events; how many correlations the caller began, and the ids of the
    first ones."""

    positions: dict[str, int] = {}
    last: Mark = NOWHERE
    begun: int = 0
    listed: str = ""


_NOTHING = _Own()


class OwnWrites:
    """The callers' last writes, as far as this process has read the log."""

    def __init__(
        self,
        log: PostgresLog,
        waiter: PositionWaiter,
        projections: Iterable[Projection[Any]],
        reactors: Iterable[ReactorScope],
    ) -> None:
        self._log = log
        self._waiter = waiter
        models, reacting = list(projections), [each for each in reactors if each.writes]
        self._consumers = _consumers(log.codec, models, reacting)
        self._reactors = {
            model.name: _reactors_before(log.codec, model, reacting) for model in models
        }
        self._callers: OrderedDict[str, _Own] = OrderedDict()
        self._begun: OrderedDict[UUID, Sequence[_Own]] = OrderedDict()
        self._stalled: dict[str, int] = {}  # where a consumer stood still while somebody waited
        self._reacted: dict[str, int] = {}
        """By reactor, the position up to which all that it appended has been read."""
        self._followed = 0
        self._reading = asyncio.Lock()
        self._asked = self._served = 0
        log.history.when_it_changes(self._forget)

    def of(self, user_id: UUID) -> "ReadYourWrites":
        """The own writes for one request of this person."""
        return ReadYourWrites(self, f"user:{user_id}")

    def _forget(self) -> None:
        self._callers.clear()
        self._begun.clear()
        self._stalled.clear()
        self._reacted = {}  # what is being found out goes into the other one
        self._waiter.forget()
        self._followed = 0
        self._served = 0

    # -- reading on --------------------------------------------------------------------------------

    async def read_on(self) -> None:
        """Read up to the log's end. Callers who ask meanwhile share the next reading."""
        self._asked += 1
        ticket = self._asked
        async with self._reading:
            while self._served < ticket:
                upto, generation = self._asked, self._log.history.generation
                async with self._log.pool.connection() as conn:
                    cursor = conn.cursor(binary=True)
                    await cursor.execute(_READ_ON, (self._followed,), prepare=True)
                    rows = await cursor.fetchall()
                if generation == self._log.history.generation:
                    for row in rows:
                        self._note(*row)
                    self._served = upto

    def _note(
        self, position: int, event_id: UUID, name: str, actor: str, correlation_id: UUID | None
    ) -> None:
        self._followed = position
        owners: Sequence[_Own] = self._begun.get(correlation_id, ()) if correlation_id else ()
        if actor.startswith("user:"):
            own = self._own(actor)
            if own not in owners:
                owners = (*owners, own)
                if correlation_id is not None and len(owners) <= MAX_SHARING:
                    self._begin(own, correlation_id, owners)
        consumers = self._consumers.get(name, ()) if owners else ()
        for own in owners if consumers else ():
            own.positions.update(dict.fromkeys(consumers, position))
            own.last = Mark(position, event_id)

    def _own(self, actor: str) -> _Own:
        own = self._callers.get(actor)
        if own is None:
            own = self._callers[actor] = _Own()
            if len(self._callers) > MAX_CALLERS:
                self._callers.popitem(last=False)
        self._callers.move_to_end(actor)
        return own

    def _begin(self, own: _Own, correlation_id: UUID, owners: Sequence[_Own]) -> None:
        self._begun[correlation_id] = owners
        if len(self._begun) > MAX_CORRELATIONS:
            self._begun.popitem(last=False)
        own.begun += 1
        if own.begun <= MAX_LISTED:
            own.listed += f",{correlation_id}" if own.listed else str(correlation_id)

    # -- for a request -----------------------------------------------------------------------------

    def values(self, actor: str) -> dict[str, object]:
        """The values of NEWER. For a caller with more correlations than are listed, any newer event
        counts."""
        own = self._callers.get(actor, _NOTHING)
        return {
            "_actor": actor,
            "_correlations": f"{{{own.listed}}}",
            "_followed": self._followed,
            "_scanned": MAX_SCANNED_EVENTS if own.begun <= MAX_LISTED else 0,
        }

    def knows(self, actor: str) -> bool:
        """Whether this caller wrote anything lately."""
        return actor in self._callers

    def wanted(self, actor: str, models: Iterable[str]) -> dict[str, int]:
        """The positions at which these read models have all that the caller wrote, as far as this
        process has read the log."""
        positions = self._callers.get(actor, _NOTHING).positions
        return {name: positions.get(name, 0) for name in models}

    def last(self, actor: str) -> Mark:
        """The caller's last event: a server that has it has the others as well."""
        return self._callers.get(actor, _NOTHING).last

    async def until_reacted(self, actor: str, models: Collection[str], seconds: float) -> None:
        """Wait until reactors have appended what follows, for these read models, from the caller's
        writes.

        Each step waits for no more than what the log has when it begins, and there is one for each
        reactor: so a caller who writes all the time does not wait all the time.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        for _ in {name for model in models for name in self._reactors.get(model, ())}:
            reacted, reactors = self._reacted, self._unfinished(actor, models)
            if not reactors:
                return
            await self._waiter.active()
            where = {name: self._waiter.last_seen(name) for name in reactors}
            missing = self.worth_waiting(reactors, where)
            if missing and not await self.reach(missing, where, deadline - clock()):
                return
            where |= missing
            if all(where[name] < position for name, position in reactors.items()):
                return  # none of them is worth waiting for
            await self.read_on()
            reacted.update((name, max(where[name], reacted.get(name, 0))) for name in reactors)

    def _unfinished(self, actor: str, models: Iterable[str]) -> dict[str, int]:
        """The reactors that may still append something for these read models, and the positions
        that they have to reach."""
        positions, reacted = self._callers.get(actor, _NOTHING).positions, self._reacted
        return {
            name: positions[name]
            for model in models
            for name in self._reactors.get(model, ())
            if name in positions and positions[name] > reacted.get(name, 0)
        }

    def worth_waiting(self, wanted: Mapping[str, int], at: Mapping[str, int]) -> dict[str, int]:
        """The consumers worth waiting for: those that have not arrived, run, move, and are near
        enough."""
        return {
            name: position
            for name, position in wanted.items()
            if 0 <= at[name] < position <= at[name] + SOON_POSITIONS
            and self._stalled.get(name) != at[name]
        }

    async def reach(self, wanted: Mapping[str, int], at: Mapping[str, int], seconds: float) -> bool:
        """Wait until all have reached their positions. Returns False when that takes too long."""
        if await self._waiter.reach(wanted, seconds):
            return True
        if seconds >= STALLED_SECONDS:
            where = {name: self._waiter.last_seen(name) for name in wanted}
            self._stalled.update((name, at[name]) for name in wanted if where[name] == at[name])
        return False


class ReadYourWrites:
    """The caller's own writes, for which the queries of one request wait."""

    def __init__(self, writes: OwnWrites, actor: str) -> None:
        self._writes = writes
        self._actor = actor
        self._left = WAIT_TIMEOUT_SECONDS
        self._wanted: dict[str, int] = {}  # where read models have to be, once decided

    @property
    def values(self) -> dict[str, object]:
        """The values of NEWER."""
        return self._writes.values(self._actor)

    @property
    def waited(self) -> float:
        """How many seconds the request has waited."""
        return WAIT_TIMEOUT_SECONDS - self._left

    async def are_in(self, at: Mapping[str, int], *, newer: bool) -> bool:
        """Whether to give an answer from read models at these positions: it has the caller's
        writes, or the time to wait for them is over. Otherwise waits until another query is worth
        while.

        `newer` is what NEWER said in the same snapshot.
        """
        writes = self._writes
        if not await self._decide(at.keys(), newer=newer):
            return True
        behind = {name: self._wanted[name] for name in at if at[name] < self._wanted[name]}
        missing = writes.worth_waiting(behind, at)
        if not missing or self._left <= 0:
            return True
        await self._timed(writes.reach(missing, at, self._left))
        return False

    async def wanted(self, models: Collection[str]) -> tuple[Mapping[str, int], Mark]:
        """The positions at which these read models have the caller's writes, and the caller's last
        event, wherever the models are read: the log has been read to its end, and the reactors have
        been waited for."""
        if not await self._decide(models, newer=True):
            return {}, NOWHERE
        return self._wanted, self._writes.last(self._actor)

    async def _decide(self, models: Collection[str], *, newer: bool) -> bool:
        """Decide where these read models have to be, unless an earlier query of the request did.
        Returns whether the caller wrote anything lately."""
        writes = self._writes
        if not self._wanted.keys() >= set(models):
            if newer:
                await writes.read_on()
            if not writes.knows(self._actor):
                return False
            await self._timed(writes.until_reacted(self._actor, models, self._left))
            self._wanted |= writes.wanted(self._actor, models)
        return True

    async def _timed(self, waiting: Awaitable[object]) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            await waiting
        finally:
            self._left -= clock() - began


# -- consumers of events ---------------------------------------------------------------------------


def _consumers(
    codec: Codec, models: Iterable[Projection[Any]], reactors: Iterable[ReactorScope]
) -> dict[str, tuple[str, ...]]:
    """By wire name of an event, the read models that fold it and the reactors that react to it."""
    found: dict[str, tuple[str, ...]] = {}
    for consumer, events in (
        *((model.name, model.folds) for model in models),
        *((reactor.name, reactor.reactions) for reactor in reactors),
    ):
        for name in codec.names_of(events):
            found[name] = (*found.get(name, ()), consumer)
    return found


def _reactors_before(
    codec: Codec, model: Projection[Any], reactors: Iterable[ReactorScope]
) -> frozenset[str]:
    """The reactors through which an event may lead, in any number of steps, to one that a read
    model folds."""
    kinds, found = _kinds(codec, model.folds), dict[str, ReactorScope]()
    while more := [
        each
        for each in reactors
        if each.name not in found and not kinds.isdisjoint(written.kind for written in each.writes)
    ]:
        for reactor in more:
            found[reactor.name] = reactor
            kinds |= _kinds(codec, reactor.reactions)
    return frozenset(found)


def _kinds(codec: Codec, events: Iterable[type[msgspec.Struct]]) -> set[str]:
    return {codec.kinds[name] for name in codec.names_of(events)}
