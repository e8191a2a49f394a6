"""Read models as they were at a position: queries over the tables of `projections.engine.past`,
which are built when a query first needs them.

The statement itself checks that the tables are complete, and of the log's history. Everything is
read from the primary.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import TypeVar

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from projections.engine.past import SAME_HISTORY, schema_at
from projections.registry import read_models
from queries.engine.tables import models_in, reading, sendable, with_tables

S = TypeVar("S", bound=msgspec.Struct)

USED_SECONDS = 30.0
"""How often a process notes that a schema is used."""

MAX_NOTED = 1_000
"""How many schemas a process remembers to have noted."""

MAX_TRIES = 3
"""How often a query has missing tables built before it gives up."""

Build = Callable[[int, Sequence[str]], Awaitable[None]]
"""Builds the tables of some read models as they were at a position; returns once they are there.
Raises AsOfBeingBuilt, AsOfUnavailable."""

_USED = 'UPDATE "{schema}".moment SET used_at = clock_timestamp()'


class AsOfBeingBuilt(Exception):
    """The tables are still being built, which goes on: the query will be answered later."""


class AsOfUnavailable(Exception):
    """The tables cannot be built; the message says why."""


class PastTables:
    """Runs statements over the tables of any position, by connections of a pool (autocommit)."""

    def __init__(self, pool: AsyncConnectionPool, build: Build) -> None:
        self._pool = pool
        self._build = build
        self._storages = {each.projection.name: each.storage for each in read_models()}
        self._noted: dict[int, float] = {}

    async def rows(
        self, position: int, row: type[S], query: str, values: Mapping[str, object]
    ) -> list[S]:
        """The rows of a query as of a position of the log. Raises AsOfBeingBuilt,
        AsOfUnavailable."""
        names = models_in(query)
        storages = tuple((name, self._storages[name]) for name in names)
        columns, decoder = reading(row)
        statement = _statement(columns, query, storages, position)
        sent = {name: sendable(value) for name, value in values.items()}
        sent["_storages"] = [storage for _, storage in storages]
        for _ in range(MAX_TRIES):
            found = await self._ask(statement, sent)
            if found is not None:
                await self._note_use(position)
                return decoder.decode(found)
            await self._build(position, names)
        raise AsOfUnavailable(f"{schema_at(position)} is dropped as soon as it is built")

    async def _ask(self, statement: bytes, values: Mapping[str, object]) -> str | None:
        """The rows as JSON; None unless all tables are complete."""
        try:
            async with self._pool.connection() as conn:
                found = await (await conn.execute(statement, values)).fetchone()
        except psycopg.errors.UndefinedTable:
            return None
        return found[0] if found is not None and found[1] else None

    async def _note_use(self, position: int) -> None:
        """Note that the schema is used, as the one not used for longest is dropped first."""
        now = time.monotonic()
        if now - self._noted.get(position, -USED_SECONDS) < USED_SECONDS:
            return
        if len(self._noted) >= MAX_NOTED:
            self._noted.clear()
        self._noted[position] = now
        with suppress(psycopg.Error):  # dropped since, or the server takes no writes
            async with self._pool.connection() as conn:
                await conn.execute(_USED.format(schema=schema_at(position)).encode())


@cache
def _template(columns: str, query: str, storages: tuple[tuple[str, str], ...]) -> str:
    """The statement, with a mark in place of the schema."""
    tables = {name: f'"{_SCHEMA}"."{storage}"' for name, storage in storages}
    same = SAME_HISTORY.format(moment=f'"{_SCHEMA}".moment', position=_POSITION)
    return f"""
SELECT (
    SELECT coalesce(json_agg(found), '[]')::text
    FROM (SELECT {columns} FROM ({with_tables(query, tables)}) AS asked) AS found
), {same} AND {len(storages)} = (
    SELECT count(*) FROM "{_SCHEMA}".built WHERE storage = ANY (%(_storages)s)
)"""


_SCHEMA, _POSITION = "{schema of the position}", "{the position}"


def _statement(
    columns: str, query: str, storages: tuple[tuple[str, str], ...], position: int
) -> bytes:
    text = _template(columns, query, storages).replace(_SCHEMA, schema_at(position))
    return text.replace(_POSITION, str(position)).encode()
