"""Asking read models: typed rows, and the log position that they reflect, in one statement and so
in one snapshot.

A query is plain SQL that names its read models by `@`: `SELECT name FROM @users`. Which table that
is, consumers.feeds tells: it is remembered, checked by the very statement that uses it, and looked
up anew when a rebuild has switched.

Why no views: to put another table under a view takes an exclusive lock, for which a switch waits
until the longest report is read, and everybody else for the switch. And several versions of one
read model may be read at the same time.
"""

import asyncio
import copy
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
"""How often a query looks again for the tables to read before it says that they are not there."""

WAIT_TIMEOUT_SECONDS = 5.0
"""How long a query waits for its read models to reach a position."""


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """What a query found, and the log position that it reflects: of several read models, the
    smallest."""

    value: T
    position: int

    def map(self, change: Callable[[T], U]) -> "Answer[U]":
        """The same position with another value."""
        return Answer(change(self.value), self.position)


class ReadModels:
    """Runs queries over the active tables of the read models, by connections of a pool
    (autocommit).

    `readable` are the versions of the projections that this program reads: those of the registry,
    when not given.
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
        """The same read models for one request of somebody signed in: answers have the caller's own
        writes, if the read models come to have them in time."""
        view = copy.copy(self)
        view._own = own
        return view

    @property
    def at_least(self) -> int:
        """The position that answers reflect at least."""
        return self._at_least

    @property
    def waited(self) -> float:
        """Seconds for which own writes were waited for."""
        return 0.0 if self._own is None else self._own.waited

    def reaching(self, position: int, timeout: float = WAIT_TIMEOUT_SECONDS) -> "ReadModels":
        """The same read models for somebody who knows of a position: queries answer only once they
        reflect it.

        They raise ReadModelBehind when that takes longer, PositionUnknown when the log has no such
        position.
        """
        view = copy.copy(self)
        view._at_least = position
        view._timeout = timeout
        return view

    async def rows(self, row: type[S], query: str, **values: object) -> Answer[list[S]]:
        """The rows of a query, in its order, decoded by the names of its columns. Raises
        ReadModelBehind.

        Of a read model's rows (`SELECT * FROM @orders`) only what is shown is read.
        """
        names, clock = _models_in(query), asyncio.get_running_loop()
        deadline = clock.time() + self._timeout
        while True:
            try:
                answer, at, newer = await self._rows(row, query, names, values)
            except ReadModelBehind as behind:
                if isinstance(behind, CatchingUp) and behind.left > SOON_POSITIONS:
                    raise
                # Otherwise a new shop's projector is about to make the tables.
            else:
                if answer.position >= self._at_least:
                    if self._own is None or await self._own.are_in(at, newer=newer):
                        return answer
                    continue
            if not await self.waiter.wait(names, self._at_least, deadline - clock.time()):
                raise ReadModelBehind(f"{', '.join(names)} not yet at {self._at_least}")

    async def catching_up(self) -> dict[str, Progress]:
        """The read models that queries cannot read yet: of a new version, or whose rows were
        lost."""
        return await self.waiter.catching_up(self._known)

    async def first(self, row: type[S], query: str, **values: object) -> Answer[S | None]:
        """The first row of a query, None when there is none."""
        return (await self.rows(row, query, **values)).map(
            lambda found: found[0] if found else None
        )

    async def on_active(
        self, name: str, call: Callable[[ActiveSubscription], Awaitable[T]]
    ) -> Answer[T]:
        """As `rows`, for a query that is run elsewhere on the tables of one read model: `call` gets
        the active subscription.

        The position is the subscription's before the call, so the value reflects it at least.
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
        """The active subscription of a read model, once that has the caller's own writes."""
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
        """The answer and, for a caller, where each read model was, and NEWER."""
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
                return answer, dict(zip(names, found[4], strict=True)), found[3]
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
    return tuple(sorted(set(_MODEL.findall(query))))


def with_tables(query: str, tables: Mapping[str, str]) -> str:
    """A query with the read models' tables in place of their names."""
    return _MODEL.sub(lambda found: tables[found[1]], query)


_MODEL = re.compile(r"(?<![\w@])@([a-z_]+)")


_EACH = ", array_agg(position ORDER BY array_position(%(_feeds)s, feed)) AS each"


@cache
def _statement(
    columns: str, query: str, storages: tuple[tuple[str, str], ...], *, of_caller: bool
) -> bytes:
    """The rows as one JSON array, beside the checkpoint and, for a caller, NEWER and each read
    model's checkpoint: one snapshot for all."""
    tables = {name: 'read."{}"'.format(storage.replace('"', '""')) for name, storage in storages}
    return f"""
SELECT at.position, at.n, (
    SELECT coalesce(json_agg(found), '[]')::text
    FROM (SELECT {columns} FROM ({with_tables(query, tables)}) AS asked) AS found
){f", {NEWER}, at.each" if of_caller else ""}
FROM (
    SELECT min(position) AS position, count(*) AS n{_EACH if of_caller else ""}
    FROM {SUBSCRIPTIONS}
    WHERE feed = ANY (%(_feeds)s) AND active
) AS at""".encode()


@cache
def _reading(row: type[S]) -> tuple[str, msgspec.json.Decoder[list[S]]]:
    """The columns that a type of rows is read from, and what decodes them."""
    columns = ", ".join(shown_fields(row)) if issubclass(get_origin(row) or row, Row) else "*"
    return columns, msgspec.json.Decoder(list[row])  # type: ignore[valid-type]


def _sendable(value: object) -> object:
    """A value that the database takes. What it cannot hold, no row has: so it may as well be
    another sign."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_sendable(each) for each in value]
    return value
