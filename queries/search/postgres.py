"""Looks games up in the PostgreSQL search index."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import psycopg
from psycopg.sql import SQL, Composable, Composed, Identifier
from psycopg.sql import Literal as Constant
from psycopg_pool import AsyncConnectionPool

from projections.search.document import GameDocument
from projections.search.postgres_index import decode_documents, fetch_statement, keys_table, quoted
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

Parameters = dict[str, object]

# Frequent keys cost the most and tell the least: so the rarest are looked up, up to a total number
# of rows.
_FIND = SQL("""
WITH counted AS MATERIALIZED (
    SELECT g, trigram, (SELECT count(*) FROM (SELECT FROM {keys} k WHERE k.g = asked.g
        LIMIT 1000) AS few) AS games
    FROM unnest(%(keys)s::text[], %(trigram)s::boolean[]) AS asked (g, trigram)
),
chosen AS MATERIALIZED (
    SELECT g, trigram, ln(1 + 20000::float8 / games) AS weight
    FROM (SELECT *, sum(games) OVER (ORDER BY games, g) AS so_far FROM counted WHERE games > 0)
        AS rarest_first
    WHERE so_far <= {max_key_rows} OR so_far = games
),
shares AS MATERIALIZED (
    SELECT id, sum(weight) AS share FROM chosen JOIN {keys} USING (g) GROUP BY id
    HAVING sum(weight) > (SELECT {share} * coalesce(sum(weight), 0) FROM chosen WHERE trigram)
    ORDER BY share DESC LIMIT %(shares)s
),
loose AS (
    SELECT id FROM shares JOIN {table} d USING (id) WHERE {counts}
    ORDER BY share * rank / (1 + 0.012::float8 * trigrams) DESC LIMIT {limit}
),
exact AS (
    SELECT id FROM {table} d WHERE text = %(text)s AND {counts}
    ORDER BY title <> %(query)s, id LIMIT {limit}
),
begun AS (
    SELECT id FROM {table} d
    WHERE canonical >= %(canonical)s AND canonical < %(canonical)s || chr(1114111) AND {counts}
    ORDER BY rank DESC, length(canonical) LIMIT {limit}
),
strict AS (
    SELECT id FROM {table} d WHERE {strict} AND {counts} ORDER BY rank DESC, length(canonical)
        LIMIT {limit}
)
SELECT id, title, text, canonical, rank, {strict}, document FROM {table} d
WHERE id IN (SELECT id FROM exact UNION SELECT id FROM loose UNION SELECT id FROM begun UNION
SELECT id FROM strict)
""")

_COUNT = SQL("""
WITH hits AS MATERIALIZED (
    SELECT genres, tags, platforms, {price} AS price FROM {table} d WHERE {strict} AND {counts}
)
SELECT 'total', '', count(*) FROM hits
UNION ALL (SELECT 'genre', v, count(*) FROM hits, unnest(genres) v
           GROUP BY v ORDER BY 3 DESC, v COLLATE "C" LIMIT {limit})
UNION ALL (SELECT 'tag', v, count(*) FROM hits, unnest(tags) v
           GROUP BY v ORDER BY 3 DESC, v COLLATE "C" LIMIT {limit})
UNION ALL (SELECT 'platform', v, count(*) FROM hits, unnest(platforms) v
           GROUP BY v ORDER BY 3 DESC, v COLLATE "C" LIMIT {limit})
UNION ALL (SELECT 'price', (width_bucket(price, {steps}) - 1)::text, count(*) FROM hits
           WHERE price IS NOT NULL GROUP BY 2 ORDER BY 2)
""")

_LISTING = SQL("""
SELECT * FROM (SELECT {key} AS key, id FROM {table} d WHERE {strict} AND {counts}) AS hits
WHERE id <> ALL (%(without)s) AND {beyond}
ORDER BY key {direction}, id {direction} LIMIT %(limit)s
""")

MAX_KEY_ROWS = 3000
"""Roughly how many rows of the table of keys one query reads."""

MAX_SHARES = 150
"""How many games are considered by their share of the keys alone, when no filter can drop most of
them."""

_PRICE = SQL("""
(coalesce(prices -> %(region)s::text, prices -> 'everywhere') ->> %(currency)s::text)::bigint
""")
_NO_PRICE = 2**62


class PostgresGameIndex:
    """The port `GameIndex` over the tables that `projections.search.postgres_index` fills.

    `table` returns the name of the active table, and is called for every query.
    """

    name: EngineName = "postgres"

    def __init__(
        self, pool: AsyncConnectionPool[psycopg.AsyncConnection], table: Callable[[], str]
    ) -> None:
        self._pool = pool
        self._table = table

    async def find(self, lookup: Lookup) -> Found:
        """See `GameIndex`."""
        parameters = _parameters(lookup)
        async with self._pool.connection() as conn, conn.pipeline():
            candidates = (
                await conn.execute(self._find(lookup), parameters, prepare=True)
                if lookup.typed
                else None
            )
            counts = await conn.execute(self._count(lookup), parameters, prepare=True)
            return _found(
                await candidates.fetchall() if candidates else [], await counts.fetchall()
            )

    async def suggest(self, lookup: Lookup) -> list[Candidate]:
        """See `GameIndex`."""
        if lookup.typed is None:
            return []
        async with self._pool.connection() as conn:
            rows = await conn.execute(self._find(lookup), _parameters(lookup), prepare=True)
            return [Candidate(*row[:-1]) for row in await rows.fetchall()]

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
        statement = _LISTING.format(
            key=_order_key(order),
            beyond=(
                SQL("(key, id) {} (%(key)s, %(id)s)").format(SQL("<" if order.descending else ">"))
                if after
                else SQL("true")
            ),
            direction=SQL("DESC" if order.descending else "ASC"),
            **self._parts(lookup),
        )
        parameters = _parameters(lookup) | {"limit": limit, "without": list(without)}
        if after:
            parameters |= {"key": after.key, "id": after.game_id}
        async with self._pool.connection() as conn:
            rows = await conn.execute(statement, parameters, prepare=True)
            return [Listed(*row) for row in await rows.fetchall()]

    async def fetch(self, game_ids: Sequence[UUID]) -> list[GameDocument]:
        """See `GameIndex`."""
        if not game_ids:
            return []
        async with self._pool.connection() as conn:
            rows = await conn.execute(fetch_statement(self._table()), [list(game_ids)])
            return decode_documents([row[0] for row in await rows.fetchall()])

    def _find(self, lookup: Lookup) -> Composed:
        return _FIND.format(
            keys=Identifier(keys_table(self._table())),
            share=Constant(LOOSE_SHARE),
            max_key_rows=Constant(MAX_KEY_ROWS),
            limit=Constant(MAX_CANDIDATES),
            **self._parts(lookup),
        )

    def _count(self, lookup: Lookup) -> Composed:
        return _COUNT.format(
            price=_PRICE,
            limit=Constant(FACET_SPELLINGS),
            steps=Constant(list(PRICE_STEPS)),
            **self._parts(lookup),
        )

    def _parts(self, lookup: Lookup) -> dict[str, Composable]:
        strict = SQL("lexemes @@ %(strict)s::tsquery") if lookup.typed else SQL("true")
        return {"table": Identifier(self._table()), "strict": strict, "counts": _counts(lookup)}


def _counts(lookup: Lookup) -> Composed:
    """The SQL condition that a game counts for this lookup."""
    conditions: list[Composable] = [
        SQL("id = ANY(%(game_ids)s)") if lookup.game_ids is not None else SQL("active")
    ]
    if lookup.filters:
        conditions.append(SQL("filters @> %(filters)s::text[]"))
    if lookup.seller_id is not None:
        conditions.append(SQL("seller_id = %(seller_id)s"))
    if lookup.price_min is not None:
        conditions.append(SQL("{} >= %(price_min)s").format(_PRICE))
    if lookup.price_max is not None:
        conditions.append(SQL("{} <= %(price_max)s").format(_PRICE))
    return SQL(" AND ").join(conditions)


def _is_narrowed(lookup: Lookup) -> bool:
    return lookup != Lookup(typed=lookup.typed, region=lookup.region, currency=lookup.currency)


def _order_key(order: SearchOrder) -> Composable:
    keys: dict[OrderField, Composable] = {
        "text": SQL("text"),
        "released": SQL("released"),
        "price": (
            SQL("coalesce({}, {})").format(
                _PRICE, Constant(-_NO_PRICE if order.descending else _NO_PRICE)
            )
        ),
    }
    return keys[order.field]


def _parameters(lookup: Lookup) -> Parameters:
    parameters: Parameters = {
        "filters": lookup.filters,
        "seller_id": lookup.seller_id,
        "game_ids": lookup.game_ids,
        "region": lookup.region,
        "currency": lookup.currency,
        "price_min": lookup.price_min,
        "price_max": lookup.price_max,
    }
    if lookup.typed:
        parameters |= {
            "keys": lookup.typed.trigrams + lookup.typed.other_keys,
            "trigram": [True] * len(lookup.typed.trigrams) + [False] * len(lookup.typed.other_keys),
            "shares": None if _is_narrowed(lookup) else MAX_SHARES,
            "canonical": lookup.typed.canonical,
            "text": lookup.typed.text,
            "query": lookup.typed.query,
            "strict": _tsquery(lookup.typed),
        }
    return parameters


def _tsquery(typed: Typed) -> str:
    groups = (" | ".join(map(_tsquery_part, group)) for group in typed.strict)
    return " & ".join(f"({group})" for group in groups)


def _tsquery_part(alternative: Alternative) -> str:
    return quoted(alternative.lexeme) + (":*" if alternative.unfinished else "")


def _found(candidates: list[Any], counts: list[tuple[str, str, int]]) -> Found:
    spellings: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, value, count in counts:
        spellings[name].append((value, count))
    documents = decode_documents([row[-1] for row in candidates])
    return Found(
        candidates=[Candidate(*row[:-1]) for row in candidates],
        documents={row[0]: document for row, document in zip(candidates, documents, strict=True)},
        total=next(count for name, _, count in counts if name == "total"),
        facets=Facets(
            genre=facet_values("genre", spellings["genre"]),
            tag=facet_values("tag", spellings["tag"]),
            platform=facet_values("platform", spellings["platform"]),
            price=[
                price_range(int(value), count) for name, value, count in counts if name == "price"
            ],
        ),
    )
