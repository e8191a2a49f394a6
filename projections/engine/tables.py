"""Rows in a PostgreSQL table that is made from the row type."""

import datetime
import types
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar, Union, get_args, get_origin
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql

from projections.engine.arrays import Array, column_array
from projections.engine.store import Difference, Store
from projections.projection import Key, key_of, personal_fields

R = TypeVar("R", bound=msgspec.Struct)

SCHEMA = "read"
"""The schema of all storages that queries read."""

MANY_ROWS = 1_000
"""From this many rows on, COPY is used: it costs a fourth per row, but also a temporary table."""

_FETCH = sql.SQL("""
SELECT {columns} FROM {table} t JOIN unnest({arrays}) AS k({key}) USING ({key})
""")

_UPSERT = sql.SQL("""
INSERT INTO {table} ({columns}) SELECT * FROM {source} ON CONFLICT ({key}) DO {update}
""")

_DELETE = sql.SQL("""
DELETE FROM {table} t USING unnest({arrays}) AS k({key}) WHERE {same_key}
""")

_DIGEST = sql.SQL("""
SELECT count(*), coalesce(sum(hash_record_extended(ROW({columns}), 0)), 0)::text FROM {table} t
""")

_DIFFERING = sql.SQL("""
SELECT concat_ws(' ', {key}) FROM {stored} a FULL JOIN {replayed} b USING ({key})
WHERE ROW({stored_columns})::text IS DISTINCT FROM ROW({replayed_columns})::text
LIMIT 10
""")

_EXISTING = """
SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = %s AND relname = ANY (%s)
"""

_SIMPLE: dict[object, str] = {
    str: "text",
    int: "bigint",
    float: "double precision",
    bool: "boolean",
    UUID: "uuid",
    bytes: "bytea",
    datetime.datetime: "timestamptz",
    datetime.date: "date",
}


class Column(msgspec.Struct, frozen=True):
    """A column of a row's table. Types that are not simple are stored as jsonb."""

    name: str
    type: str
    nullable: bool

    @property
    def json(self) -> bool:
        """Whether values are written and read as JSON."""
        return self.type == "jsonb"


def columns_of(row_type: type[msgspec.Struct]) -> list[Column]:
    """The columns of a row type, one per field."""
    found = []
    for field in msgspec.structs.fields(row_type):
        hint, nullable = field.type, False
        if get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
            nullable = True
            rest = [a for a in get_args(hint) if a is not type(None)]
            hint = rest[0] if len(rest) == 1 else hint
        found.append(Column(field.name, _SIMPLE.get(hint, "jsonb"), nullable))
    return found


_dumps = msgspec.json.Encoder().encode


class _Statements(msgspec.Struct, frozen=True):
    """The statements for rows of one storage."""

    fetch: bytes
    upsert: bytes
    delete: bytes


class PostgresTable(Generic[R]):
    """Rows in a table of schema `read`, or of another, one column per field."""

    transactional = True

    def __init__(self, row_type: type[R], schema: str = SCHEMA) -> None:
        self.row_type = row_type
        self._schema = schema
        self.columns = columns_of(row_type)
        self._key_names: tuple[str, ...] = row_type.KEY  # type: ignore[attr-defined]
        self._indexes: tuple[str, ...] = row_type.INDEXES  # type: ignore[attr-defined]
        self._checks: tuple[str, ...] = row_type.CHECKS  # type: ignore[attr-defined]
        self._key = key_of(row_type)
        self._types = {c.name: c.type for c in self.columns}
        self._json_at = [number for number, c in enumerate(self.columns) if c.json]
        self._composed: dict[str, _Statements] = {}  # by storage

    def table(self, storage: str) -> sql.Identifier:
        """The name of a storage's table, for SQL."""
        return sql.Identifier(self._schema, storage)

    # -- shape -------------------------------------------------------------------------------------

    def prepare(self, conn: psycopg.Connection, storage: str) -> None:
        """Create the table with its key and indexes if it does not exist."""
        self._create(conn, storage, sql.SQL("TABLE IF NOT EXISTS"))
        self._index_key(conn, storage)
        self._index(conn, storage)

    def tables(self, storage: str) -> Sequence[str]:
        """Its one table."""
        return [storage]

    def exists(self, conn: psycopg.Connection, storage: str) -> bool:
        """Whether the table exists: schema `read` may be missing from a backup, or be dropped."""
        return bool(existing_tables(conn, [storage], self._schema))

    def _create(
        self,
        conn: psycopg.Connection,
        storage: str,
        kind: sql.SQL,
        where: sql.Composable | None = None,
    ) -> None:
        columns = [
            sql.SQL("{} {}{}").format(
                sql.Identifier(c.name),
                sql.SQL(c.type),
                sql.SQL("" if c.nullable else " NOT NULL"),
            )
            for c in self.columns
        ]
        checks = [sql.SQL(f"CHECK ({check})") for check in self._checks]
        body = sql.SQL(", ").join([*columns, *checks])
        table = where or self.table(storage)
        conn.execute(sql.SQL("CREATE {} {} ({})").format(kind, table, body))
        if where is None and self._schema != "pg_temp":
            self._keep_from_statistics(conn, table)

    def _keep_from_statistics(self, conn: psycopg.Connection, table: sql.Composable) -> None:
        """The planner's statistics would have copies of personal values."""
        for name in personal_fields(self.row_type):
            conn.execute(
                sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET STATISTICS 0").format(
                    table, sql.Identifier(name)
                )
            )

    def _index_key(self, conn: psycopg.Connection, storage: str) -> None:
        key = sql.SQL(", ").join(map(sql.Identifier, self._key_names))
        conn.execute(
            sql.SQL("CREATE UNIQUE INDEX IF NOT EXISTS {} ON {} ({})").format(
                sql.Identifier(f"{storage}_key"), self.table(storage), key
            )
        )

    def _index(self, conn: psycopg.Connection, storage: str) -> None:
        for no, index in enumerate(self._indexes, 1):
            conn.execute(
                sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} {}").format(
                    sql.Identifier(f"{storage}_{no}"),
                    self.table(storage),
                    sql.SQL(index if index.startswith("USING") else f"({index})"),
                )
            )

    def drop(self, conn: psycopg.Connection, storage: str) -> None:
        """Drop the table."""
        conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.table(storage)))

    def storages(self) -> Sequence[str]:
        """Nothing: all storages are tables."""
        return ()

    def activated(self, storage: str) -> None:
        """Nothing: queries look up the active table."""

    # -- rows --------------------------------------------------------------------------------------

    def follows(self, conn: psycopg.Connection, storage: str) -> bool:  # noqa: ARG002
        """True: a table goes back with its checkpoint."""
        return True

    def fetch(self, conn: psycopg.Connection, storage: str, keys: Sequence[Key]) -> Iterable[R]:
        """The rows of these keys that exist."""
        query = self._statements(storage).fetch
        return self._rows(
            conn.cursor(binary=True).execute(query, self._split(keys), prepare=True).fetchall()
        )

    def keys_after(
        self, conn: psycopg.Connection, storage: str, after: Sequence[object] | None, limit: int
    ) -> list[tuple[Any, ...]]:
        """The next keys in their order, after one or from the start; each a tuple of its parts."""
        key = self._key_list()
        marks = sql.SQL(", ").join(sql.Placeholder() for _ in self._key_names)
        beyond = sql.SQL("") if after is None else sql.SQL("WHERE ({}) > ({})").format(key, marks)
        query = sql.SQL("SELECT {key} FROM {table} {beyond} ORDER BY {key} LIMIT {limit}").format(
            key=key, table=self.table(storage), beyond=beyond, limit=sql.Literal(limit)
        )
        return conn.execute(query, list(after or ())).fetchall()

    def write(
        self, conn: psycopg.Connection, storage: str, puts: Sequence[R], deletes: Sequence[Key]
    ) -> None:
        """Write by one upsert and one delete: from arrays, or for many rows by COPY into a
        temporary table."""
        if len(puts) >= MANY_ROWS:
            self._merge(conn, storage, puts)
        elif puts:
            query = self._statements(storage).upsert
            conn.execute(query, self._column_arrays(puts), prepare=True)
        if deletes:
            conn.execute(self._statements(storage).delete, self._split(deletes), prepare=True)

    def begin(self, conn: psycopg.Connection, storage: str) -> None:
        """Create a table without indexes."""
        self.drop(conn, storage)
        self._create(conn, storage, sql.SQL("TABLE"))

    def fill(self, conn: psycopg.Connection, storage: str, rows: Iterable[R]) -> None:
        """Load by COPY. The first load creates the key's index, by which later rows are looked up
        and merged."""
        self._copy(conn, self.table(storage), rows)
        # looked up first: to make it would wait for others that fill the table
        if not existing_tables(conn, [f"{storage}_key"], self._schema):
            self._index_key(conn, storage)

    def finish(self, conn: psycopg.Connection, storage: str) -> None:
        """Index, and tell the planner what is there."""
        self._index(conn, storage)
        conn.execute(sql.SQL("ANALYZE {}").format(self.table(storage)))

    def aside(self) -> "PostgresTable[R]":
        """A store over temporary tables."""
        return PostgresTable(self.row_type, "pg_temp")

    def _merge(self, conn: psycopg.Connection, storage: str, rows: Sequence[R]) -> None:
        staged = sql.Identifier("pg_temp", "staged")
        self._create(conn, storage, sql.SQL("TEMP TABLE"), sql.Identifier("staged"))
        try:
            self._copy(conn, staged, rows)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise psycopg.DataError(f"a row does not fit {storage}: {error}") from error
        conn.execute(self._upsert(storage, staged))
        conn.execute("DROP TABLE pg_temp.staged")

    def _copy(self, conn: psycopg.Connection, table: sql.Composable, rows: Iterable[R]) -> None:
        copy_from = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table, self._names())
        with conn.cursor() as cursor, cursor.copy(copy_from) as copy:
            # a jsonb's binary form is JSON after a version, and written without a Jsonb to wrap it
            copy.set_types(["bytea" if c.json else c.type for c in self.columns])
            for row in rows:
                copy.write_row(self._values(row))

    def _values(self, row: R) -> Sequence[Any]:
        values = msgspec.structs.astuple(row)
        if not self._json_at:
            return values
        changed = list(values)
        for number in self._json_at:
            changed[number] = _binary_json(values[number])
        return changed

    def _column_arrays(self, rows: Sequence[R]) -> list[Array]:
        return [column_array(c.type, [getattr(row, c.name) for row in rows]) for c in self.columns]

    def _rows(self, rows: Sequence[tuple[Any, ...]]) -> list[R]:
        names = [c.name for c in self.columns]
        if not self._json_at:
            return [self.row_type(**dict(zip(names, row, strict=True))) for row in rows]
        return [msgspec.convert(dict(zip(names, row, strict=True)), self.row_type) for row in rows]

    def _statements(self, storage: str) -> _Statements:
        """The statements for a few rows: composing one takes as long as the server takes for it."""
        found = self._composed.get(storage)
        if found is None:
            found = self._composed[storage] = self._compose(storage)
        return found

    def _compose(self, storage: str) -> _Statements:
        keys = {
            "table": self.table(storage),
            "arrays": _arrays(self._types[name] for name in self._key_names),
            "key": self._key_list(),
        }
        same = sql.SQL("t.{0} = k.{0}")
        same_key = (same.format(sql.Identifier(name)) for name in self._key_names)
        columns = _arrays(column.type for column in self.columns)
        return _Statements(
            fetch=_FETCH.format(columns=self._names("t"), **keys).as_bytes(),
            upsert=self._upsert(storage, sql.SQL("unnest({})").format(columns)).as_bytes(),
            delete=_DELETE.format(same_key=sql.SQL(" AND ").join(same_key), **keys).as_bytes(),
        )

    def _upsert(self, storage: str, source: sql.Composable) -> sql.Composed:
        others = [sql.Identifier(c.name) for c in self.columns if c.name not in self._key_names]
        update = (
            sql.SQL("UPDATE SET {}").format(
                sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(name) for name in others)
            )
            if others
            else sql.SQL("NOTHING")
        )
        return _UPSERT.format(
            table=self.table(storage),
            columns=self._names(),
            source=source,
            key=self._key_list(),
            update=update,
        )

    def _names(self, table: str = "") -> sql.Composed:
        """The columns in the order of the fields; a table of an older release may have another
        order."""
        return sql.SQL(", ").join(
            sql.Identifier(*filter(None, (table, c.name))) for c in self.columns
        )

    def _key_list(self) -> sql.Composed:
        return sql.SQL(", ").join(map(sql.Identifier, self._key_names))

    def _split(self, keys: Sequence[Key]) -> list[Array]:
        columns = [keys] if len(self._key_names) == 1 else list(zip(*keys, strict=True))
        return [
            column_array(self._types[name], values)
            for name, values in zip(self._key_names, columns, strict=True)
        ]

    # -- proof -------------------------------------------------------------------------------------

    def digest(self, conn: psycopg.Connection, storage: str) -> tuple[int, str]:
        """Count and sum of the rows' hashes."""
        query = _DIGEST.format(columns=self._names("t"), table=self.table(storage))
        row = conn.execute(query).fetchone()
        assert row is not None
        return row[0], row[1]

    def frozen(self, conn: psycopg.Connection, storage: str) -> "FrozenTable[R]":  # noqa: ARG002
        """The table as this transaction's snapshot shows it."""
        return FrozenTable(self, storage)

    def differing(
        self, conn: psycopg.Connection, table: sql.Composable, replayed: sql.Composable
    ) -> list[str]:
        """Up to ten keys of rows that are in only one of two tables, or differ."""
        query = _DIFFERING.format(
            key=self._key_list(),
            stored=table,
            replayed=replayed,
            stored_columns=self._names("a"),
            replayed_columns=self._names("b"),
        )
        return [row[0] for row in conn.execute(query)]


class FrozenTable(Generic[R]):
    """A table in the snapshot of a transaction."""

    def __init__(self, store: PostgresTable[R], storage: str) -> None:
        self._store = store
        self._storage = storage

    def compare(self, conn: psycopg.Connection, store: Store[R], storage: str) -> Difference:
        """Compare hashes; join the rows only if they differ."""
        assert isinstance(store, PostgresTable)
        stored, replayed = self._store.digest(conn, self._storage), store.digest(conn, storage)
        keys: list[str] = []
        if stored != replayed:
            keys = self._store.differing(
                conn, self._store.table(self._storage), store.table(storage)
            )
        return Difference(stored[0], replayed[0], stored[1], replayed[1], keys)


def existing_tables(
    conn: psycopg.Connection, names: Sequence[str], schema: str = SCHEMA
) -> set[str]:
    """Those of these tables, or indexes, that exist."""
    return {name for (name,) in conn.execute(_EXISTING, (schema, list(names)), prepare=True)}


def _arrays(types: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL("%s::{}[]").format(sql.SQL(each)) for each in types)


def _binary_json(value: object) -> bytes | None:
    return None if value is None else b"\x01" + _dumps(value)
