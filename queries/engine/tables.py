"""The active tables of the read models on one server, and statements over them.

A query is plain SQL that names its read models by `@`: `SELECT name FROM @users`; `@model:part` is
the table beside it whose name ends in `_part`. The table is looked up in consumers.feeds and
cached; the statement itself checks that it is still the active one, and after a rebuild's switch it
is looked up again.

Why no views: replacing the table under a view takes an exclusive lock, for which a switch would
wait until the longest report ends, and all other queries for the switch. And several versions of a
read model may be read at the same time.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Generic, TypeVar, get_origin

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from eventstore.consumers.checkpoints import SUBSCRIPTIONS
from projections.projection import Row, shown_fields
from queries.engine.positions import ActiveSubscription, PositionWaiter, ReadModelBehind

S = TypeVar("S", bound=msgspec.Struct)

MAX_TRIES = 5
"""How often a query looks up its tables before it reports them missing."""


class Shown(msgspec.Struct, Generic[S], frozen=True):
    """What a statement found in one snapshot."""

    rows: list[S]
    position: int
    """The log position that the rows reflect: of several read models, the lowest."""
    positions: Mapping[str, int]
    """Each read model's position; only where something was asked `beside`."""
    beside: bool


class Tables:
    """Runs statements over the active tables of one server, by connections of a pool
    (autocommit)."""

    def __init__(self, pool: AsyncConnectionPool, waiter: PositionWaiter) -> None:
        """`waiter` looks up the active subscriptions on the same server."""
        self._pool = pool
        self._waiter = waiter
        self._active: dict[str, ActiveSubscription] = {}

    async def rows(
        self,
        row: type[S],
        query: str,
        names: tuple[str, ...],
        values: Mapping[str, object],
        beside: str = "",
    ) -> Shown[S]:
        """The rows of a query over the read models of these names; `beside` is an SQL condition to
        be evaluated in the same snapshot. Raises ReadModelBehind when there is no table."""
        columns, decoder = reading(row)
        sent = {name: sendable(value) for name, value in values.items()}
        for _ in range(MAX_TRIES):
            active = await self._find(names)
            storages = tuple((name, active[name].storage) for name in names)
            statement = _statement(columns, query, storages, beside)
            sent["_feeds"] = [active[name].name for name in names]
            try:
                async with self._pool.connection() as conn:
                    found = await (await conn.execute(statement, sent)).fetchone()
            except psycopg.errors.UndefinedTable:
                found = None
            if found is not None and found[1] == len(names):
                position, _, rows, holds, each = found
                at = (position,) if each is None else each
                positions = dict(zip(names, at, strict=True)) if beside else {}
                return Shown(decoder.decode(rows), position, positions, holds)
            for name in names:
                self._active.pop(name, None)
        raise ReadModelBehind(f"{', '.join(names)} have no tables yet")

    async def _find(self, names: Iterable[str]) -> Mapping[str, ActiveSubscription]:
        unknown = [name for name in names if name not in self._active]
        if not unknown:
            return self._active
        found = await self._waiter.active(unknown)
        self._active.update(
            (name, subscription)
            for name, subscription in found.items()
            if not subscription.stands_in
        )
        return {**self._active, **found}


@cache
def models_in(query: str) -> tuple[str, ...]:
    """The read models that a query names."""
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
    columns: str, query: str, storages: tuple[tuple[str, str], ...], beside: str
) -> bytes:
    """The statement: the rows as one JSON array, with the checkpoint and, where something is asked
    beside them, that and each read model's checkpoint, in one snapshot."""
    tables = {name: 'read."{}"'.format(storage.replace('"', '""')) for name, storage in storages}
    each = _EACH if beside and len(storages) > 1 else "null"
    return f"""
SELECT at.position, at.n, (
    SELECT coalesce(json_agg(found), '[]')::text
    FROM (SELECT {columns} FROM ({with_tables(query, tables)}) AS asked) AS found
), {beside or "false"}, at.each
FROM (
    SELECT min(position) AS position, count(*) AS n, {each} AS each
    FROM {SUBSCRIPTIONS}
    WHERE feed = ANY (%(_feeds)s) AND active
) AS at""".encode()


@cache
def reading(row: type[S]) -> tuple[str, msgspec.json.Decoder[list[S]]]:
    """The columns to select for a type of rows, and their decoder."""
    columns = ", ".join(shown_fields(row)) if issubclass(get_origin(row) or row, Row) else "*"
    return columns, msgspec.json.Decoder(list[row])  # type: ignore[valid-type]


def sendable(value: object) -> object:
    """The value in a form that PostgreSQL accepts. Characters that it cannot store are in no row,
    so any replacement works."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    if isinstance(value, list):
        return [sendable(each) for each in value]
    return value
