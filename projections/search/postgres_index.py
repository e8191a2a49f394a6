"""The search index in PostgreSQL: a table of documents, and a table of the keys that lead to them.

Everything happens on the caller's connection and in the caller's transaction; names of tables are
the caller's, so that a rebuild can fill new tables beside the live ones.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import LiteralString
from uuid import UUID

import msgspec
import psycopg
from psycopg.sql import SQL, Composed, Identifier
from psycopg.types.json import Jsonb

from kit.ahead import one_ahead
from projections.search.document import Derived, GameDocument, derive
from projections.search.text import take_apart

LOADED_AT_ONCE = 2_000

_COLUMNS: dict[str, LiteralString] = {
    "id": "uuid PRIMARY KEY",
    "position": "bigint NOT NULL",
    "active": "boolean NOT NULL",
    "title": "text NOT NULL",
    "text": 'text COLLATE "C" NOT NULL',
    "canonical": 'text COLLATE "C" NOT NULL',
    "rank": "real NOT NULL",
    "trigrams": "integer NOT NULL",
    "lexemes": "tsvector NOT NULL",
    "filters": "text[] NOT NULL",
    "seller_id": "uuid NOT NULL",
    "genres": "text[] NOT NULL",
    "tags": "text[] NOT NULL",
    "platforms": "text[] NOT NULL",
    "prices": "jsonb NOT NULL",
    "released": 'text COLLATE "C" NOT NULL',
    "document": "bytea NOT NULL",
}


_IS_KEYED = "SELECT FROM pg_index WHERE indrelid = to_regclass(%s) AND indisprimary"

_UPSERT = SQL("""
INSERT INTO {table} AS old VALUES ({values})
ON CONFLICT (id) DO UPDATE SET {changes} WHERE old.position <= EXCLUDED.position
""")

_FILL_KEYS = SQL("""
INSERT INTO {keys}
SELECT key COLLATE "C", id
FROM unnest(%s::uuid[], %s::text[]) AS d (id, keys), string_to_table(keys, ' ') AS key
ORDER BY 1, 2
""")

_ADD_KEYS = SQL("""
INSERT INTO {keys} SELECT * FROM unnest(%s::text[], %s::uuid[]) ON CONFLICT DO NOTHING
""")

_DELETE_KEYS = SQL("""
DELETE FROM {keys} WHERE (g, id) IN (SELECT * FROM unnest(%s::text[], %s::uuid[]))
""")

_FETCH = SQL("""
SELECT d.document
FROM unnest(%s::uuid[]) WITH ORDINALITY AS asked (id, place) JOIN {table} d USING (id)
ORDER BY place
""")

_TITLES = SQL("""
SELECT id, title, position FROM {table} WHERE id = ANY (%s) ORDER BY id FOR UPDATE
""")


def keys_table(table: str) -> str:
    """The name of the table of keys beside a table of documents."""
    return f"{table}_grams"


def create_tables(conn: psycopg.Connection, table: str, *, keyed: bool = True) -> None:
    """Create the two tables of an index, empty; `create_indexes` makes them quick to search. If not
    `keyed`, they are loaded faster, and `index_keys` has to follow."""
    columns = SQL(", ").join(
        SQL("{} " + kind).format(Identifier(name)) for name, kind in _COLUMNS.items()
    )
    conn.execute(SQL("CREATE TABLE {} ({})").format(Identifier(table), columns))
    keys = Identifier(keys_table(table))
    conn.execute(SQL('CREATE TABLE {} (g text COLLATE "C", id uuid)').format(keys))
    if keyed:
        index_keys(conn, table)


def create_indexes(conn: psycopg.Connection, table: str) -> None:
    """Index the documents, and tell the planner what is there."""
    for column in ("lexemes", "filters"):
        conn.execute(
            SQL("CREATE INDEX ON {} USING gin ({})").format(Identifier(table), Identifier(column))
        )
    for column in ("canonical", "text", "released"):
        conn.execute(
            SQL("CREATE INDEX ON {} ({}, id)").format(Identifier(table), Identifier(column))
        )
    for name in (table, keys_table(table)):
        conn.execute(SQL("ANALYZE {}").format(Identifier(name)))


def index_keys(conn: psycopg.Connection, table: str) -> None:
    """Index the keys, unless they are: documents may be changed from then on."""
    keys = keys_table(table)
    if conn.execute(_IS_KEYED, [keys]).fetchone() is None:
        # One btree of (key, id) answers in a tenth of the time that a GIN over arrays takes.
        conn.execute(SQL("ALTER TABLE {} ADD PRIMARY KEY (g, id)").format(Identifier(keys)))


def drop_tables(conn: psycopg.Connection, table: str) -> None:
    """Drop an index's tables if they exist."""
    for name in (keys_table(table), table):
        conn.execute(SQL("DROP TABLE IF EXISTS {}").format(Identifier(name)))


class _Ready(msgspec.Struct):
    """Documents ready to be loaded: rows of the table, their ids, and the keys of each."""

    rows: list[tuple[object, ...]] = []
    ids: list[UUID] = []
    keys: list[str] = []


def bulk_load(conn: psycopg.Connection, table: str, documents: Iterable[GameDocument]) -> None:
    """Load documents that are not in the index yet, some at a time, as each has dozens of keys."""
    remaining = iter(documents)
    parts = iter(lambda: list(islice(remaining, LOADED_AT_ONCE)), [])
    copy_rows = SQL("COPY {} FROM STDIN").format(Identifier(table))
    fill_keys = _FILL_KEYS.format(keys=Identifier(keys_table(table)))
    for ready in one_ahead(map(_made_ready, parts)):
        with conn.cursor().copy(copy_rows) as copy:
            for row in ready.rows:
                copy.write_row(row)
        conn.execute(fill_keys, [ready.ids, ready.keys])


def _made_ready(documents: Sequence[GameDocument]) -> _Ready:
    ready = _Ready()
    for document in documents:
        derived = derive(document)
        ready.rows.append(_row(document, derived, _tsvector(derived.text.lexemes), _array))
        ready.ids.append(document.game_id)
        ready.keys.append(" ".join(dict.fromkeys(derived.text.keys)))
    return ready


def upsert(conn: psycopg.Connection, table: str, documents: Sequence[GameDocument]) -> None:
    """Insert documents, or replace those of their games. A document with a lower position than the
    stored one is ignored."""
    titles = _titles(conn, table, [document.game_id for document in documents])
    fresh = [each for each in documents if each.position >= titles.get(each.game_id, ("", -1))[1]]
    derived = [derive(document) for document in fresh]
    conn.cursor().executemany(
        _upsert_statement(table),
        [
            _row(each, parts, parts.text.lexemes, list)
            for each, parts in zip(fresh, derived, strict=True)
        ],
    )
    gone, come = [], []
    for document, parts in zip(fresh, derived, strict=True):
        old = titles.get(document.game_id)
        before = set(take_apart(old[0]).keys) if old else set()
        gone += [(key, document.game_id) for key in before - set(parts.text.keys)]
        come += [(key, document.game_id) for key in set(parts.text.keys) - before]
    _delete_keys(conn, table, gone)
    conn.execute(_ADD_KEYS.format(keys=Identifier(keys_table(table))), _arrays(come))


def delete(conn: psycopg.Connection, table: str, game_ids: Sequence[UUID]) -> None:
    """Delete documents. (A retired game stays, with its status.)"""
    titles = _titles(conn, table, game_ids)
    _delete_keys(
        conn,
        table,
        [(key, id_) for id_, (title, _) in titles.items() for key in take_apart(title).keys],
    )
    conn.execute(
        SQL("DELETE FROM {} WHERE id = ANY(%s)").format(Identifier(table)), [list(game_ids)]
    )


def fetch(conn: psycopg.Connection, table: str, game_ids: Sequence[UUID]) -> list[GameDocument]:
    """The documents of games, in the given order; games without one are left out."""
    rows = conn.execute(fetch_statement(table), [list(game_ids)]).fetchall()
    return decode_documents([bytes(row[0]) for row in rows])


def fetch_statement(table: str) -> Composed:
    """A query that takes the ids as an array and returns encoded documents in that order."""
    return _FETCH.format(table=Identifier(table))


def decode_documents(encoded: Sequence[bytes]) -> list[GameDocument]:
    """Decode values of the column `document`."""
    return [msgspec.json.decode(each, type=GameDocument) for each in encoded]


def _row(
    document: GameDocument,
    derived: Derived,
    lexemes: str | list[str],
    array: Callable[[list[str]], str | list[str]],
) -> tuple[object, ...]:
    text = derived.text
    return (
        document.game_id,
        document.position,
        document.status == "ACTIVE",
        _storable(document.title),
        text.text,
        text.canonical,
        text.rank,
        text.trigrams,
        lexemes,
        array(derived.filters),
        document.seller_id,
        array([_storable(genre) for genre in derived.genres]),
        array([_storable(tag) for tag in derived.tags]),
        array([_storable(platform) for platform in derived.platforms]),
        Jsonb(derived.prices),
        derived.released,
        msgspec.json.encode(document),
    )


def _storable(text: str) -> str:
    """PostgreSQL's text holds no NUL; the document itself keeps it."""
    return text.replace("\0", "")


def _tsvector(lexemes: Sequence[str]) -> str:
    """The text form, for COPY."""
    return " ".join(map(quoted, lexemes))


def _array(texts: Sequence[str]) -> str:
    """The text form, for COPY: psycopg would take several times as long to find it."""
    escaped = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in escaped) + "}"


def quoted(lexeme: str) -> str:
    """A lexeme as PostgreSQL reads it in a tsvector or tsquery."""
    return "'" + lexeme.replace("\\", "\\\\").replace("'", "''") + "'"


def _upsert_statement(table: str) -> Composed:
    values = SQL(", ").join(
        SQL("array_to_tsvector(%s::text[])" if name == "lexemes" else "%s") for name in _COLUMNS
    )
    changes = SQL(", ").join(
        SQL("{0} = EXCLUDED.{0}").format(Identifier(name)) for name in _COLUMNS if name != "id"
    )
    return _UPSERT.format(table=Identifier(table), values=values, changes=changes)


def _titles(
    conn: psycopg.Connection, table: str, game_ids: Sequence[UUID]
) -> dict[UUID, tuple[str, int]]:
    """Title and position of the stored documents, locked until the caller commits."""
    rows = conn.execute(_TITLES.format(table=Identifier(table)), [list(game_ids)]).fetchall()
    return {game_id: (title, position) for game_id, title, position in rows}


def _delete_keys(conn: psycopg.Connection, table: str, keys: Sequence[tuple[str, UUID]]) -> None:
    conn.execute(_DELETE_KEYS.format(keys=Identifier(keys_table(table))), _arrays(keys))


def _arrays(keys: Sequence[tuple[str, UUID]]) -> list[list[object]]:
    return [[key for key, _ in keys], [game_id for _, game_id in keys]]
