"""Looks games up in the PostgreSQL search index.

Statements are plain SQL that names tables by `@`, as `queries.engine.read_models` reads them:
the same ones run over the active read model, and over any other tables of an index.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import TypeVar
from uuid import UUID

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from projections.search.document import NO_PRICE, GameDocument
from projections.search.postgres_index import quoted
from queries.catalog.stock import OFFERS, Offer
from queries.engine.read_models import ReadModels
from queries.engine.tables import with_tables
from queries.search.port import (
    FACET_SPELLINGS,
    LOOSE_SHARE,
    MAX_CANDIDATES,
    PRICE_STEPS,
    Alternative,
    EngineName,
    Facets,
    Found,
    Listed,
    Lookup,
    OrderField,
    SearchOrder,
    Typed,
    facet_values,
    price_range,
)
from queries.search.ranking import Candidate

S = TypeVar("S", bound=msgspec.Struct)
Values = dict[str, object]

MAX_KEY_ROWS = 3000
"""Roughly how many rows of the table of keys one query reads."""

MAX_SHARES = 150
"""How many games are considered by their share of the keys alone, when no filter can drop most of
them."""

# psycopg remembers how it has read a statement only up to 4,096 characters
_DOCUMENT = "convert_from(d.document, 'UTF8')::json"
_STRICT = "lexemes @@ %(strict)s::tsquery"
_PRICE = """(coalesce(prices -> %(region)s::text, prices -> 'everywhere')
    ->> %(currency)s::text)::bigint"""
_ON_SALE = "active"
_VALUE = re.compile(r"%\(\w+\)s(?:::\w+(?:\[\])?)?")

# Frequent keys cost the most and tell the least: so the rarest are looked up, up to a total number
# of rows.
_CANDIDATES = f"""
WITH counted AS MATERIALIZED (
    SELECT g, trigram, (SELECT count(*) FROM (SELECT FROM @games_text:grams k WHERE k.g = asked.g
        LIMIT 1000) AS few) AS games
    FROM unnest(%(keys)s::text[], %(trigram)s::boolean[]) AS asked (g, trigram)
),
chosen AS MATERIALIZED (
    SELECT g, trigram, ln(1 + 20000::float8 / games) AS weight
    FROM (SELECT *, sum(games) OVER (ORDER BY games, g) AS so_far FROM counted WHERE games > 0)
        AS rarest_first
    WHERE so_far <= {MAX_KEY_ROWS} OR so_far = games
),
shares AS MATERIALIZED (
    SELECT id, sum(weight) AS share FROM chosen JOIN @games_text:grams USING (g) GROUP BY id
    HAVING sum(weight) > (SELECT {LOOSE_SHARE} * coalesce(sum(weight), 0) FROM chosen WHERE trigram)
    ORDER BY share DESC LIMIT %(shares)s::bigint
),
loose AS (
    SELECT id FROM shares JOIN @games_text d USING (id) WHERE {{counts}}
    ORDER BY share * rank / (1 + 0.012::float8 * trigrams) DESC LIMIT {MAX_CANDIDATES}
),
exact AS (
    SELECT id FROM @games_text d WHERE text = %(text)s AND {{counts}}
    ORDER BY title <> %(as_typed)s, id LIMIT {MAX_CANDIDATES}
),
begun AS (
    SELECT id FROM @games_text d
    WHERE canonical >= %(canonical)s AND canonical < %(canonical)s || chr(1114111) AND {{counts}}
    ORDER BY rank DESC, length(canonical) LIMIT {MAX_CANDIDATES}
),
strict AS (
    SELECT id FROM @games_text d WHERE {_STRICT} AND {{counts}}
    ORDER BY rank DESC, length(canonical) LIMIT {MAX_CANDIDATES}
)
SELECT coalesce(json_agg(json_build_array(json_build_array(
    d.id, d.title, d.text, d.canonical, d.rank, {_STRICT}), {{shown}})), '[]')
FROM @games_text d {{offers}}
WHERE d.id IN (SELECT id FROM exact UNION SELECT id FROM loose UNION SELECT id FROM begun
    UNION SELECT id FROM strict {{popular}})
"""

_POPULAR = """UNION SELECT id FROM @games_text d
WHERE id IN (SELECT unnest(%(popular)s::uuid[])) AND {counts}"""

_COUNTS = f"""
WITH hits AS MATERIALIZED (
    SELECT genres, tags, platforms, {_PRICE} AS price FROM @games_text d
    WHERE {{strict}} AND {{counts}}
)
SELECT json_agg(json_build_array(facet, v, n)) FROM (
    SELECT 'total', '', count(*) FROM hits
    {{values}}
    UNION ALL (SELECT 'price', (width_bucket(price, ARRAY[{{steps}}]::bigint[]) - 1)::text, count(*)
        FROM hits WHERE price IS NOT NULL GROUP BY 2 ORDER BY 2)
) AS counted (facet, v, n)
"""
_VALUES = f"""
UNION ALL (SELECT '{{facet}}', v, count(*) FROM hits, unnest({{column}}) v
    GROUP BY v ORDER BY 3 DESC, v COLLATE "C" LIMIT {FACET_SPELLINGS})
"""

_LISTING = """
SELECT key, id AS game_id
FROM (SELECT {key} AS key, id FROM @games_text d WHERE {strict} AND {counts}) AS hits
WHERE id <> ALL (%(without)s::uuid[]) AND {beyond}
ORDER BY key {direction}, id {direction} LIMIT %(limit)s
"""

_FETCH = f"""
SELECT {_DOCUMENT} AS document
FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS asked (id, place) JOIN @games_text d USING (id)
ORDER BY place
"""


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
        statement = _suggest_statement(_conditions(lookup))
        (found,) = await self._rows(_Candidates, statement, _values(lookup))
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
        direction, beyond = "ASC", "true"
        if order.descending:
            direction = "DESC"
        if after:
            beyond = f"(key, id) {'<' if order.descending else '>'} (%(key)s, %(id)s)"
        statement = _LISTING.format(
            key=_order_key(order),
            beyond=beyond,
            direction=direction,
            strict=_STRICT if lookup.typed else "true",
            counts=_conditions(lookup),
        )
        values = _values(lookup) | {"limit": limit, "without": list(without)}
        if after:
            values |= {"key": after.key, "id": after.game_id}
        return await self._rows(Listed, statement, values)

    async def fetch(self, game_ids: Sequence[UUID]) -> list[GameDocument]:
        """See `GameIndex`."""
        if not game_ids:
            return []
        found = await self._rows(_Fetched, _FETCH, {"ids": list(game_ids)})
        return [each.document for each in found]

    def _find(self, lookup: Lookup) -> tuple[str, Values]:
        """The statement that finds, and its values."""
        is_typed = lookup.typed is not None
        return _find_statement(_conditions(lookup), is_typed=is_typed), _values(lookup)

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
        return _find_statement(_conditions(lookup), offers=True), {**values, "now": self._now}

    async def _rows(self, row: type[S], statement: str, values: Values) -> list[S]:
        found = await self._reads.rows(row, statement, **values)
        self.position = min(found.position, self.position or found.position)
        return found.value


@lru_cache(maxsize=200)
def _find_statement(counts: str, *, is_typed: bool = True, offers: bool = False) -> str:
    """The statement of a `_FoundRow`."""
    values = [("genre", "genres"), ("tag", "tags"), ("platform", "platforms")]
    columns = [
        _COUNTS.format(
            strict=_STRICT if is_typed else "true",
            counts=counts,
            values="".join(_VALUES.format(facet=name, column=column) for name, column in values),
            steps=",".join(map(str, PRICE_STEPS)),
        )
    ]
    names = ["counts"]
    if is_typed:
        columns.append(
            _CANDIDATES.format(
                counts=counts,
                shown=f"{_DOCUMENT}, to_json(o)" if offers else _DOCUMENT,
                offers=f"LEFT JOIN ({OFFERS}) AS o ON o.product_id = d.id" if offers else "",
                popular="",
            )
        )
        names.append("candidates")
    statement = _short(
        "SELECT " + ", ".join(f"({of}) AS {name}" for of, name in zip(columns, names, strict=True))
    )
    return _planned_once(statement) if counts == _ON_SALE else statement


@lru_cache(maxsize=200)
def _suggest_statement(counts: str) -> str:
    candidates = _CANDIDATES.format(
        counts=counts, shown="null", offers="", popular=_POPULAR.format(counts=counts)
    )
    return _short(f"SELECT ({candidates}) AS candidates")


def _planned_once(statement: str) -> str:
    """The statement with its values in subqueries, where the planner does not see them. With the
    values in sight, it expects fewer rows than without, and therefore plans every search anew,
    although always in the same way; that takes a third of the server's time."""
    return _VALUE.sub(lambda value: f"(SELECT {value[0]})", statement)


def _short(statement: str) -> str:
    return " ".join(statement.split())


@cache
def _decoder_of(row: type[S]) -> msgspec.json.Decoder[list[S]]:
    return msgspec.json.Decoder(list[row])  # type: ignore[valid-type]


@lru_cache(maxsize=200)
def _text(statement: str, table: str) -> bytes:
    tables = {"games_text": f'"{table}"'}
    rows = with_tables(statement, tables)
    return f"SELECT coalesce(json_agg(found), '[]')::text FROM ({rows}) AS found".encode()


def _conditions(lookup: Lookup) -> str:
    """The SQL condition that a game counts for this lookup."""
    conditions = ["id = ANY(%(game_ids)s::uuid[])" if lookup.game_ids is not None else _ON_SALE]
    if lookup.filters:
        conditions.append("filters @> %(filters)s::text[]")
    if lookup.seller_id is not None:
        conditions.append("d.seller_id = %(seller_id)s")
    if lookup.price_min is not None:
        conditions.append(f"{_PRICE} >= %(price_min)s")
    if lookup.price_max is not None:
        conditions.append(f"{_PRICE} <= %(price_max)s")
    return " AND ".join(conditions)


def _is_narrowed(lookup: Lookup) -> bool:
    return lookup != Lookup(
        typed=lookup.typed,
        popular=lookup.popular,
        region=lookup.region,
        currency=lookup.currency,
    )


def _order_key(order: SearchOrder) -> str:
    keys: dict[OrderField, str] = {
        "text": "text",
        "released": "released",
        "price": f"coalesce({_PRICE}, {-NO_PRICE if order.descending else NO_PRICE})",
    }
    return keys[order.field]


def _values(lookup: Lookup) -> Values:
    values: Values = {
        "filters": lookup.filters,
        "seller_id": lookup.seller_id,
        "game_ids": lookup.game_ids,
        "region": lookup.region,
        "currency": lookup.currency,
        "price_min": lookup.price_min,
        "price_max": lookup.price_max,
    }
    if lookup.typed:
        values |= {
            "popular": lookup.popular,
            "keys": lookup.typed.trigrams + lookup.typed.other_keys,
            "trigram": [True] * len(lookup.typed.trigrams) + [False] * len(lookup.typed.other_keys),
            "shares": None if _is_narrowed(lookup) else MAX_SHARES,
            "canonical": lookup.typed.canonical,
            "text": lookup.typed.text,
            "as_typed": lookup.typed.query,
            "strict": _tsquery(lookup.typed),
        }
    return values


def _tsquery(typed: Typed) -> str:
    groups = (" | ".join(map(_tsquery_part, group)) for group in typed.strict)
    return " & ".join(f"({group})" for group in groups)


def _tsquery_part(alternative: Alternative) -> str:
    return quoted(alternative.lexeme) + (":*" if alternative.unfinished else "")


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
