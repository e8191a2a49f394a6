"""Looks games up in the PostgreSQL search index."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import TypeVar
from uuid import UUID

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from projections.search.document import GameDocument
from queries.catalog.stock import Offer
from queries.engine.read_models import ReadModels
from queries.engine.tables import with_tables
from queries.search.port import (
    EngineName,
    Facets,
    Found,
    Listed,
    Lookup,
    SearchOrder,
    facet_values,
    price_range,
)
from queries.search.postgres_statements import (
    FETCH,
    Values,
    find_statement,
    listing_statement,
    suggest_statement,
    values_of,
)
from queries.search.ranking import Candidate

S = TypeVar("S", bound=msgspec.Struct)


class _Proposed(msgspec.Struct, frozen=True, array_like=True):
    """A candidate with its document, which is only decoded if it is shown, and its offer if that
    was asked for."""

    candidate: Candidate
    document: msgspec.Raw
    offer: Offer | None = None


class _FoundRow(msgspec.Struct, frozen=True):
    counts: list[tuple[str, str, int]]
    candidates: list[_Proposed] = []


class _Candidates(msgspec.Struct, frozen=True):
    candidates: list[_Proposed]


class _Fetched(msgspec.Struct, frozen=True):
    document: GameDocument


class _Documents(Mapping[UUID, GameDocument]):
    """Documents by game, decoded when they are asked for."""

    def __init__(self, encoded: Mapping[UUID, msgspec.Raw]) -> None:
        self._encoded = encoded

    def __getitem__(self, game_id: UUID) -> GameDocument:
        return _decoder.decode(self._encoded[game_id])

    def __contains__(self, game_id: object) -> bool:
        return game_id in self._encoded

    def __iter__(self) -> Iterator[UUID]:
        return iter(self._encoded)

    def __len__(self) -> int:
        return len(self._encoded)


_decoder = msgspec.json.Decoder(GameDocument)


class PostgresGameIndex:
    """The port `GameIndex` over the tables that `projections.search.postgres_index` fills.

    `table` returns the name of the table of documents, and is called for every query.
    """

    name: EngineName = "postgres"

    def __init__(
        self, pool: AsyncConnectionPool[psycopg.AsyncConnection], table: Callable[[], str]
    ) -> None:
        self._pool = pool
        self._table = table

    async def find(self, lookup: Lookup) -> Found:
        """See `GameIndex`."""
        return _found((await self._rows(_FoundRow, *self._find(lookup)))[0])

    async def suggest(self, lookup: Lookup) -> list[Candidate]:
        """See `GameIndex`."""
        if lookup.typed is None:
            return []
        statement = suggest_statement(lookup)
        (found,) = await self._rows(_Candidates, statement, values_of(lookup))
        return [each.candidate for each in found.candidates]

    async def listing(
        self,
        lookup: Lookup,
        order: SearchOrder,
        limit: int,
        *,
        after: Listed | None = None,
        without: Sequence[UUID] = (),
    ) -> list[Listed]:
        """See `GameIndex`."""
        statement = listing_statement(lookup, order, from_start=after is None)
        values = values_of(lookup) | {"limit": limit, "without": list(without)}
        if after:
            values |= {"key": after.key, "id": after.game_id}
        return await self._rows(Listed, statement, values)

    async def fetch(self, game_ids: Sequence[UUID]) -> list[GameDocument]:
        """See `GameIndex`."""
        if not game_ids:
            return []
        found = await self._rows(_Fetched, FETCH, {"ids": list(game_ids)})
        return [each.document for each in found]

    def _find(self, lookup: Lookup) -> tuple[str, Values]:
        """The statement that finds, and its values."""
        return find_statement(lookup), values_of(lookup)

    async def _rows(self, row: type[S], statement: str, values: Values) -> list[S]:
        async with self._pool.connection() as conn:
            answer = await conn.execute(_text(statement, self._table()), values)
            found = await answer.fetchone()
        assert found is not None
        return _decoder_of(row).decode(found[0])


class ActiveGameIndex(PostgresGameIndex):
    """The active tables. One for each search: `position` is the log position that its answers so
    far reflect."""

    def __init__(self, reads: ReadModels, now: datetime | None = None) -> None:
        """Finds the games' offers, too, if the time is given."""
        self._reads = reads
        self._now = now
        self.position: int | None = None

    def _find(self, lookup: Lookup) -> tuple[str, Values]:
        statement, values = super()._find(lookup)
        if self._now is None or lookup.typed is None:
            return statement, values
        return find_statement(lookup, offers=True), {**values, "now": self._now}

    async def _rows(self, row: type[S], statement: str, values: Values) -> list[S]:
        found = await self._reads.rows(row, statement, **values)
        self.position = min(found.position, self.position or found.position)
        return found.value


@cache
def _decoder_of(row: type[S]) -> msgspec.json.Decoder[list[S]]:
    return msgspec.json.Decoder(list[row])  # type: ignore[valid-type]


@lru_cache(maxsize=200)
def _text(statement: str, table: str) -> bytes:
    tables = {"games_text": f'"{table}"'}
    rows = with_tables(statement, tables)
    return f"SELECT coalesce(json_agg(found), '[]')::text FROM ({rows}) AS found".encode()


def _found(row: _FoundRow) -> Found:
    spellings: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, value, count in row.counts:
        spellings[name].append((value, count))
    proposed = row.candidates
    return Found(
        candidates=[each.candidate for each in proposed],
        documents=_Documents({each.candidate.game_id: each.document for each in proposed}),
        total=spellings["total"][0][1],
        facets=Facets(
            genre=facet_values("genre", spellings["genre"]),
            tag=facet_values("tag", spellings["tag"]),
            platform=facet_values("platform", spellings["platform"]),
            price=[price_range(int(value), count) for value, count in spellings["price"]],
        ),
        offers={each.candidate.game_id: each.offer for each in proposed if each.offer is not None},
    )
