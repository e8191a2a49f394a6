"""The SQL with which games are looked up in the PostgreSQL search index.

Statements are plain SQL that names tables by `@`, as `queries.engine.read_models` reads them:
the same ones run over the active read model, and over any other tables of an index.
"""

import re
from functools import lru_cache

from projections.search.document import NO_PRICE
from projections.search.postgres_index import quoted
from queries.catalog.stock import OFFERS
from queries.search.port import (
    FACET_SPELLINGS,
    LOOSE_SHARE,
    MAX_CANDIDATES,
    PRICE_STEPS,
    Alternative,
    Lookup,
    OrderField,
    SearchOrder,
    Typed,
)

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

FETCH = f"""
SELECT {_DOCUMENT} AS document
FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS asked (id, place) JOIN @games_text d USING (id)
ORDER BY place
"""


def find_statement(lookup: Lookup, *, offers: bool = False) -> str:
    """The statement that counts what is found and, if something was typed, proposes candidates
    with their documents; with `offers`, also with what they are offered for at the time `now`."""
    return _find(_conditions(lookup), is_typed=lookup.typed is not None, offers=offers)


def suggest_statement(lookup: Lookup) -> str:
    """The statement that proposes candidates without their documents."""
    return _suggest(_conditions(lookup))


def listing_statement(lookup: Lookup, order: SearchOrder, *, from_start: bool) -> str:
    """The statement of a page of a listing, from its start or after `key` and `id`."""
    direction, after = ("DESC", "<") if order.descending else ("ASC", ">")
    return _LISTING.format(
        key=_order_key(order),
        beyond="true" if from_start else f"(key, id) {after} (%(key)s, %(id)s)",
        direction=direction,
        strict=_STRICT if lookup.typed else "true",
        counts=_conditions(lookup),
    )


@lru_cache(maxsize=200)
def _find(counts: str, *, is_typed: bool, offers: bool) -> str:
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
def _suggest(counts: str) -> str:
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


def values_of(lookup: Lookup) -> Values:
    """The values of the statements about a lookup."""
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
