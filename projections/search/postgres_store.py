"""The store of search documents in PostgreSQL, over `projections.search.postgres_index`."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import psycopg
from psycopg.sql import SQL, Identifier

from projections.engine.store import Difference, Store
from projections.engine.tables import SCHEMA, existing_tables
from projections.search import postgres_index
from projections.search.document import GameDocument
from projections.search.projection import Document

_DIGEST = SQL("""
SELECT
    (SELECT count(*) FROM {documents}),
    (SELECT coalesce(sum(hashtextextended(t::text, 0)), 0) FROM {documents} t)::text
    || '/' ||
    (SELECT coalesce(sum(hashtextextended(g, uuid_hash_extended(id, 0))), 0) FROM {keys})::text
""")

_DIFFERING = SQL("""
SELECT id::text FROM {stored} a FULL JOIN {replayed} b USING (id)
WHERE a::text IS DISTINCT FROM b::text
LIMIT 10
""")


class PostgresDocuments:
    """Documents and the keys that lead to them, in tables of schema `read`, or of another."""

    transactional = True

    def __init__(self, schema: str = SCHEMA) -> None:
        self.schema = schema

    def prepare(self, conn: psycopg.Connection, storage: str) -> None:
        """Create the tables if they do not exist."""
        with self._in_schema(conn):
            if not self.exists(conn, storage):
                postgres_index.create_tables(conn, storage)
                postgres_index.create_indexes(conn, storage)

    def tables(self, storage: str) -> Sequence[str]:
        """The documents' table, and that of their keys."""
        return [storage, postgres_index.keys_table(storage)]

    def exists(self, conn: psycopg.Connection, storage: str) -> bool:
        """Whether the tables exist."""
        tables = self.tables(storage)
        return existing_tables(conn, tables, self.schema) == set(tables)

    def follows(self, conn: psycopg.Connection, storage: str) -> bool:  # noqa: ARG002
        """True: a table goes back with its checkpoint."""
        return True

    def fetch(
        self, conn: psycopg.Connection, storage: str, keys: Sequence[UUID]
    ) -> Iterable[Document]:
        """The documents of these games."""
        with self._in_schema(conn):
            return [_row(document) for document in postgres_index.fetch(conn, storage, keys)]

    def write(
        self,
        conn: psycopg.Connection,
        storage: str,
        puts: Sequence[Document],
        deletes: Sequence[UUID],
    ) -> None:
        """Insert or replace documents, and delete by game."""
        if not puts and not deletes:
            return
        with self._in_schema(conn):
            if puts:
                postgres_index.upsert(conn, storage, puts)
            if deletes:
                postgres_index.delete(conn, storage, deletes)

    def begin(self, conn: psycopg.Connection, storage: str) -> None:
        """Create tables without indexes, except the documents' primary key."""
        with self._in_schema(conn):
            postgres_index.drop_tables(conn, storage)
            postgres_index.create_tables(conn, storage, keyed=False)

    def fill(self, conn: psycopg.Connection, storage: str, rows: Iterable[Document]) -> None:
        """Load documents by COPY."""
        with self._in_schema(conn):
            postgres_index.bulk_load(conn, storage, rows)
            postgres_index.index_keys(conn, storage)

    def finish(self, conn: psycopg.Connection, storage: str) -> None:
        """Create the indexes."""
        with self._in_schema(conn):
            postgres_index.create_indexes(conn, storage)

    def aside(self) -> "PostgresDocuments":
        """A store over temporary tables."""
        return PostgresDocuments("pg_temp")

    def digest(self, conn: psycopg.Connection, storage: str) -> tuple[int, str]:
        """The number of documents, and a hash of documents and keys."""
        query = _DIGEST.format(
            documents=Identifier(self.schema, storage),
            keys=Identifier(self.schema, postgres_index.keys_table(storage)),
        )
        row = conn.execute(query).fetchone()
        assert row is not None
        return row[0], row[1]

    def frozen(self, conn: psycopg.Connection, storage: str) -> "FrozenDocuments":  # noqa: ARG002
        """The tables as this transaction's snapshot shows them."""
        return FrozenDocuments(self, storage)

    def drop(self, conn: psycopg.Connection, storage: str) -> None:
        with self._in_schema(conn):
            postgres_index.drop_tables(conn, storage)

    def storages(self) -> Sequence[str]:
        """Nothing: all storages are tables."""
        return ()

    def activated(self, storage: str) -> None:
        """Nothing: queries look up the active tables."""

    @contextmanager
    def _in_schema(self, conn: psycopg.Connection) -> Iterator[None]:
        """Resolve plain table names in the store's schema, since the index's functions name no
        schema."""
        with conn.transaction():
            before = conn.execute("SELECT current_setting('search_path')").fetchone()
            conn.execute("SELECT set_config('search_path', %s, true)", (self.schema,))
            yield  # an error rolls the setting back, too
            conn.execute("SELECT set_config('search_path', %s, true)", before)


class FrozenDocuments:
    """Documents in the snapshot of a transaction."""

    def __init__(self, store: PostgresDocuments, storage: str) -> None:
        self._store = store
        self._storage = storage

    def compare(self, conn: psycopg.Connection, store: Store[Document], storage: str) -> Difference:
        """Compare hashes; join the documents only if they differ."""
        assert isinstance(store, PostgresDocuments)
        stored, replayed = self._store.digest(conn, self._storage), store.digest(conn, storage)
        keys: list[str] = []
        if stored != replayed:
            query = _DIFFERING.format(
                stored=Identifier(self._store.schema, self._storage),
                replayed=Identifier(store.schema, storage),
            )
            keys = [row[0] for row in conn.execute(query)]
        return Difference(stored[0], replayed[0], stored[1], replayed[1], keys)


def _row(document: GameDocument) -> Document:
    return Document(**{name: getattr(document, name) for name in GameDocument.__struct_fields__})
