"""Queries of read models: typed rows, and the log position that they reflect, in one statement and
so in one snapshot. `queries.engine.tables` says how a query names its read models."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from projections.projection import Projection
from projections.registry import read_models
from projections.search.projection import GamesIndex
from queries.engine.own_writes import ReadYourWrites
from queries.engine.past import PastTables
from queries.engine.positions import (
    NEWER,
    SOON_POSITIONS,
    ActiveSubscription,
    CatchingUp,
    PositionWaiter,
    Progress,
    Readable,
    ReadModelBehind,
)
from queries.engine.tables import MAX_TRIES, Shown, Tables, models_in

T = TypeVar("T")
U = TypeVar("U")
S = TypeVar("S", bound=msgspec.Struct)

WAIT_TIMEOUT_SECONDS = 5.0
"""How long a query waits for its read models to reach a position."""


class QueryResult(msgspec.Struct, Generic[T], frozen=True):
    """A query's result, and the log position that it reflects: with several read models, the
    lowest."""

    value: T
    position: int

    def map(self, change: Callable[[T], U]) -> "QueryResult[U]":
        """The same position with another value."""
        return QueryResult(change(self.value), self.position)


class Replica(Protocol):
    """What queries need of `queries.engine.replica.Replica`."""

    @property
    def unfit(self) -> str: ...

    async def rows(
        self,
        row: type[S],
        query: str,
        names: tuple[str, ...],
        values: Mapping[str, object],
        own: ReadYourWrites | None,
        at_least: int,
    ) -> Shown[S] | None: ...


class ReadModels:
    """Runs queries over the active tables of the read models, by connections of a pool
    (autocommit).

    `readable` are the versions of the projections that this program reads, by default those of the
    registry. `past` has them as they were.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool,
        readable: Mapping[str, Readable] | None = None,
        past: PastTables | None = None,
    ) -> None:
        self._past = past
        self._as_of: int | None = None
        self._known = readable_here() if readable is None else readable
        self.waiter = PositionWaiter(
            pool, {GamesIndex.name: _readable(GamesIndex(), is_table=False), **self._known}
        )
        self._tables = Tables(pool, self.waiter)
        self._at_least = 0
        self._timeout = WAIT_TIMEOUT_SECONDS
        self._own: ReadYourWrites | None = None
        self._replica: Replica | None = None

    def of_caller(self, own: ReadYourWrites) -> "ReadModels":
        """The same read models for one request of a signed-in caller: answers include the caller's
        own writes, if the read models get them in time."""
        view = self._copy()
        view._own = own
        return view

    def from_replica(self, replica: Replica) -> "ReadModels":
        """The same read models for one request that a standby may answer. Once it cannot, the rest
        of the request is answered from here, so that no later query shows an earlier position."""
        view = self._copy()
        view._replica = replica
        return view

    def from_primary(self) -> "ReadModels":
        """The same read models without a standby: for whatever is kept longer than a request, as
        each of its parts must be of one server."""
        if self._replica is None:
            return self
        view = self._copy()
        view._replica = None
        return view

    def at(self, position: int) -> "ReadModels":
        """The same read models as they were at a position, which the log must have: queries see
        what a rebuild that stopped there would show. They raise AsOfBeingBuilt, AsOfUnavailable,
        too."""
        view = self._copy()
        view._as_of = position
        view._replica = view._own = None
        view._at_least = 0
        return view

    @property
    def as_of(self) -> int | None:
        """The position as of which queries answer; None for the present."""
        return self._as_of

    def _copy(self) -> "ReadModels":
        view = ReadModels.__new__(ReadModels)
        view.__dict__.update(self.__dict__)  # a fifth of copy.copy's time, for each request
        return view

    @property
    def at_least(self) -> int:
        """The lowest position that answers may reflect."""
        return self._at_least

    @property
    def may_be_replicas(self) -> bool:
        """Whether a standby may answer."""
        return self._replica is not None and not self._replica.unfit

    @property
    def is_of_caller(self) -> bool:
        """Whether answers include a signed-in caller's own writes."""
        return self._own is not None

    @property
    def waited(self) -> float:
        """How long queries have waited for own writes."""
        return 0.0 if self._own is None else self._own.waited

    def reaching(self, position: int, timeout: float = WAIT_TIMEOUT_SECONDS) -> "ReadModels":
        """The same read models for a caller who has seen a position: queries answer only once they
        reflect it.

        Queries raise ReadModelBehind when that takes longer than `timeout`, PositionUnknown when
        the log ends before it.
        """
        view = self._copy()
        view._at_least = position
        view._timeout = timeout
        return view

    async def rows(self, row: type[S], query: str, **values: object) -> QueryResult[list[S]]:
        """The rows of a query, in its order, decoded by the names of its columns. Raises
        ReadModelBehind.

        For rows of a read model (`SELECT * FROM @orders`), internal fields are not read.
        """
        if self._as_of is not None:
            assert self._past is not None
            return QueryResult(await self._past.rows(self._as_of, row, query, values), self._as_of)
        names, clock = models_in(query), asyncio.get_running_loop()
        if self._replica is not None:
            replicated = await self._replica.rows(
                row, query, names, values, self._own, self._at_least
            )
            if replicated is not None:
                return QueryResult(replicated.rows, replicated.position)
            self._replica = None
        deadline = clock.time() + self._timeout
        while True:
            try:
                shown = await self._shown(row, query, names, values)
            except ReadModelBehind as behind:
                if isinstance(behind, CatchingUp) and behind.left > SOON_POSITIONS:
                    raise
                # Otherwise the projector of a new shop is about to create the tables.
            else:
                if shown.position >= self._at_least:
                    if self._own is None or await self._own.are_in(
                        shown.positions, newer=shown.beside
                    ):
                        return QueryResult(shown.rows, shown.position)
                    continue
            if not await self.waiter.wait(names, self._at_least, deadline - clock.time()):
                raise ReadModelBehind(f"{', '.join(names)} not yet at {self._at_least}")

    async def _shown(
        self, row: type[S], query: str, names: tuple[str, ...], values: Mapping[str, object]
    ) -> Shown[S]:
        """The rows and, for a caller, each read model's position, and NEWER."""
        if self._own is None:
            return await self._tables.rows(row, query, names, values)
        return await self._tables.rows(row, query, names, {**values, **self._own.values}, NEWER)

    async def catching_up(self) -> dict[str, Progress]:
        """The read models that queries cannot read yet, of a new version or with lost rows, and
        their progress."""
        return await self.waiter.catching_up(self._known)

    async def first(self, row: type[S], query: str, **values: object) -> QueryResult[S | None]:
        """The first row of a query, None when there is none."""
        return (await self.rows(row, query, **values)).map(
            lambda found: found[0] if found else None
        )

    async def on_active(
        self, name: str, call: Callable[[ActiveSubscription], Awaitable[T]]
    ) -> QueryResult[T]:
        """As `rows`, for a query that `call` runs on the storage of one read model's active
        subscription.

        The answer's position is the checkpoint before the call, so the value reflects at least
        that. Only for the present.
        """
        assert self._as_of is None
        if self._at_least and not await self.waiter.wait([name], self._at_least, self._timeout):
            raise ReadModelBehind(f"{name} is not yet at {self._at_least}")
        for _ in range(MAX_TRIES):
            subscription = await self._current(name)
            try:
                return QueryResult(await call(subscription), subscription.position)
            except psycopg.errors.UndefinedTable:
                continue
        raise ReadModelBehind(f"{name} has no table yet")

    async def _current(self, name: str) -> ActiveSubscription:
        """The active subscription of a read model, once it has the caller's own writes."""
        if self._own is None:
            return (await self.waiter.active([name]))[name]
        while True:
            found, newer = await self.waiter.active_and_newer(name, self._own.values)
            if await self._own.are_in({name: found.position}, newer=newer):
                return found


def readable_here() -> dict[str, Readable]:
    """The versions of the registry's projections that this program reads."""
    return {each.projection.name: _readable(each.projection) for each in read_models()}


def _readable(projection: Projection[Any], *, is_table: bool = True) -> Readable:
    return Readable(projection.version, projection.earlier, is_table)
