"""Queries of read models: typed rows, and the log position that they reflect, in one statement and
so in one snapshot.

A query is plain SQL that names its read models by `@`: `SELECT name FROM @users`; `@model:part` is
the table beside it whose name ends in `_part`. The table is looked up in consumers.feeds and
cached; the statement itself checks that it is still the active one, and after a rebuild's switch it
is looked up again.

Why no views: replacing the table under a view takes an exclusive lock, for which a switch would
wait until the longest report ends, and all other queries for the switch. And several versions of a
read model may be read at the same time.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import Any, Generic, TypeVar, get_origin

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from eventstore.consumers.checkpoints import SUBSCRIPTIONS
from projections.projection import Projection, Row, shown_fields
from projections.registry import read_models
from projections.search.projection import GamesIndex
from queries.own_writes import ReadYourWrites
from queries.positions import (
    NEWER,
    SOON_POSITIONS,
    ActiveSubscription,
    CatchingUp,
    PositionWaiter,
    Progress,
    Readable,
    ReadModelBehind,
)

T = TypeVar("T")
U = TypeVar("U")
S = TypeVar("S", bound=msgspec.Struct)

MAX_TRIES = 5
"""How often a query looks up its tables before it reports them missing."""

WAIT_TIMEOUT_SECONDS = 5.0
"""How long a query waits for its read models to reach a position."""


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """A query's result, and the log position that it reflects: with several read models, the
    lowest."""

    value: T
    position: int

    def map(self, change: Callable[[T], U]) -> "Answer[U]":
        """The same position with another value."""
        return Answer(change(self.value), self.position)


class ReadModels:
    """Runs queries over the active tables of the read models, by connections of a pool
    (autocommit).

    `readable` are the versions of the projections that this program reads, by default those of the
    registry.
    """

    def __init__(
        self, pool: AsyncConnectionPool, readable: Mapping[str, Readable] | None = None
    ) -> None:
        known = {each.projection.name: _readable(each.projection) for each in read_models()}
        self._pool = pool
        self._known = known if readable is None else readable
        self.waiter = PositionWaiter(
            pool, {GamesIndex.name: _readable(GamesIndex(), is_table=False), **self._known}
        )
        self._active: dict[str, ActiveSubscription] = {}
        self._at_least = 0
        self._timeout = WAIT_TIMEOUT_SECONDS
        self._own: ReadYourWrites | None = None

    def of_caller(self, own: ReadYourWrites) -> "ReadModels":
        """The same read models for one request of a signed-in caller: answers include the caller's
        own writes, if the read models get them in time."""
        view = self._copy()
        view._own = own
        return view

    def _copy(self) -> "ReadModels":
        view = ReadModels.__new__(ReadModels)
        view.__dict__.update(self.__dict__)  # a fifth of copy.copy's time, for each request
        return view

    @property
    def at_least(self) -> int:
        """The lowest position that answers may reflect."""
        return self._at_least

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

    async def rows(self, row: type[S], query: str, **values: object) -> Answer[list[S]]:
        """The rows of a query, in its order, decoded by the names of its columns. Raises
        ReadModelBehind.

        For rows of a read model (`SELECT * FROM @orders`), internal fields are not read.
        """
        names, clock = _models_in(query), asyncio.get_running_loop()
        deadline = clock.time() + self._timeout
        while True:
            try:
                answer, at, newer = await self._rows(row, query, names, values)
            except ReadModelBehind as behind:
                if isinstance(behind, CatchingUp) and behind.left > SOON_POSITIONS:
                    raise
                # Otherwise the projector of a new shop is about to create the tables.
            else:
                if answer.position >= self._at_least:
                    if self._own is None or await self._own.are_in(at, newer=newer):
                        return answer
                    continue
            if not await self.waiter.wait(names, self._at_least, deadline - clock.time()):
                raise ReadModelBehind(f"{', '.join(names)} not yet at {self._at_least}")

    async def catching_up(self) -> dict[str, Progress]:
        """The read models that queries cannot read yet, of a new version or with lost rows, and
        their progress."""
        return await self.waiter.catching_up(self._known)

    async def first(self, row: type[S], query: str, **values: object) -> Answer[S | None]:
        """The first row of a query, None when there is none."""
        return (await self.rows(row, query, **values)).map(
            lambda found: found[0] if found else None
        )

    async def on_active(
        self, name: str, call: Callable[[ActiveSubscription], Awaitable[T]]
    ) -> Answer[T]:
        """As `rows`, for a query that `call` runs on the storage of one read model's active
        subscription.

        The answer's position is the checkpoint before the call, so the value reflects at least
        that.
        """
        if self._at_least and not await self.waiter.wait([name], self._at_least, self._timeout):
            raise ReadModelBehind(f"{name} is not yet at {self._at_least}")
        for _ in range(MAX_TRIES):
            subscription = await self._current(name)
            try:
                return Answer(await call(subscription), subscription.position)
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

    # -- one statement -----------------------------------------------------------------------------

    async def _rows(
        self, row: type[S], query: str, names: tuple[str, ...], values: Mapping[str, object]
    ) -> tuple[Answer[list[S]], Mapping[str, int], bool]:
        """The answer and, for a caller, each read model's position, and NEWER."""
        columns, decoder = _reading(row)
        own = self._own
        values = {name: _sendable(value) for name, value in values.items()}
        for _ in range(MAX_TRIES):
            active = await self._find(names)
            statement = _statement(
                columns,
                query,
                tuple((name, active[name].storage) for name in names),
                of_caller=own is not None,
            )
            if own is not None:
                values.update(own.values)
            values["_feeds"] = [active[name].name for name in names]
            try:
                async with self._pool.connection() as conn:
                    found = await (await conn.execute(statement, values)).fetchone()
            except psycopg.errors.UndefinedTable:
                found = None
            if found is not None and found[1] == len(names):
                answer = Answer(decoder.decode(found[2]), found[0])
                if own is None:
                    return answer, {}, False
                at = {names[0]: found[0]} if len(names) == 1 else zip(names, found[4], strict=True)
                return answer, dict(at), found[3]
            for name in names:
                self._active.pop(name, None)
        raise ReadModelBehind(f"{', '.join(names)} have no tables yet")

    async def _find(self, names: Iterable[str]) -> Mapping[str, ActiveSubscription]:
        unknown = [name for name in names if name not in self._active]
        if not unknown:
            return self._active
        found = await self.waiter.active(unknown)
        self._active.update(
            (name, subscription)
            for name, subscription in found.items()
            if not subscription.stands_in
        )
        return {**self._active, **found}


def _readable(projection: Projection[Any], *, is_table: bool = True) -> Readable:
    return Readable(projection.version, projection.earlier, is_table)


@cache
def _models_in(query: str) -> tuple[str, ...]:
    return tuple(sorted({name for name, _ in _MODEL.findall(query)}))


def with_tables(query: str, tables: Mapping[str, str]) -> str:
    """The query with quoted tables in place of the read models' names."""
    return _MODEL.sub(lambda found: _part(tables[found[1]], found[2]), query)


def _part(table: str, part: str | None) -> str:
    return table if part is None else f'{table[:-1]}_{part}"'


_MODEL = re.compile(r"(?<![\w@])@([a-z_]+)(?::([a-z]+))?")


_EACH = "array_agg(position ORDER BY array_position(%(_feeds)s, feed))"
"""SQL: the checkpoint of each read model."""


@cache
def _statement(
    columns: str, query: str, storages: tuple[tuple[str, str], ...], *, of_caller: bool
) -> bytes:
    """The statement: the rows as one JSON array, with the checkpoint and, for a caller, NEWER and
    each read model's checkpoint, in one snapshot."""
    tables = {name: 'read."{}"'.format(storage.replace('"', '""')) for name, storage in storages}
    each = _EACH if of_caller and len(storages) > 1 else "null"
    return f"""
SELECT at.position, at.n, (
    SELECT coalesce(json_agg(found), '[]')::text
    FROM (SELECT {columns} FROM ({with_tables(query, tables)}) AS asked) AS found
), {NEWER if of_caller else "false"}, at.each
FROM (
    SELECT min(position) AS position, count(*) AS n, {each} AS each
    FROM {SUBSCRIPTIONS}
    WHERE feed = ANY (%(_feeds)s) AND active
) AS at""".encode()


@cache
def _reading(row: type[S]) -> tuple[str, msgspec.json.Decoder[list[S]]]:
    """The columns to select for a type of rows, and their decoder."""
    columns = ", ".join(shown_fields(row)) if issubclass(get_origin(row) or row, Row) else "*"
    return columns, msgspec.json.Decoder(list[row])  # type: ignore[valid-type]


def _sendable(value: object) -> object:
    """The value in a form that PostgreSQL accepts. Characters that it cannot store are in no row,
    so any replacement works."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_sendable(each) for each in value]
    return value
