"""Where the documents of the search index live in PostgreSQL: the store over `projections.postgres_search`."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import psycopg
from psycopg.sql import SQL, Identifier

from projections import postgres_search
from projections.game_document import GameDocument
from projections.game_documents import Document
from projections.store import Difference

_REPLAYED = "replayed_documents"


class PostgresDocuments:
    """Documents and the keys that lead to them, in tables of schema `read`."""

    transactional = True

    def prepare(self, conn: psycopg.Connection, storage: str) -> None:
        """Create the tables if they are not there."""
        with _in_schema(conn, "read"):
            found = conn.execute("SELECT to_regclass(%s)", (f'read."{storage}"',)).fetchone()
            if found and found[0] is None:
                postgres_search.create_tables(conn, storage)

    def exists(self, conn: psycopg.Connection, storage: str) -> bool:  # noqa: ARG002
        """Tables go with the database only, checkpoints and all."""
        return True

    def fetch(self, conn: psycopg.Connection, storage: str, keys: Sequence[UUID]) -> Iterable[Document]:
        """The documents of these games."""
        with _in_schema(conn, "read"):
            return [_row(document) for document in postgres_search.fetch(conn, storage, keys)]

    def write(self, conn: psycopg.Connection, storage: str, puts: Sequence[Document], deletes: Sequence[UUID]) -> None:
        """Insert or replace documents, and delete by game."""
        if not puts and not deletes:
            return
        with _in_schema(conn, "read"):
            if puts:
                postgres_search.upsert(conn, storage, puts)
            if deletes:
                postgres_search.delete(conn, storage, deletes)

    def load(self, conn: psycopg.Connection, storage: str, rows: Sequence[Document]) -> None:
        """Fill new tables by COPY."""
        with _in_schema(conn, "read"):
            postgres_search.create_tables(conn, storage)
            postgres_search.bulk_load(conn, storage, rows)

    def digest(self, conn: psycopg.Connection, storage: str) -> tuple[int, str]:
        """Number of documents, and a hash of all that is kept of them, the keys too."""
        with _in_schema(conn, "read"):
            return _digest(conn, storage)

    def compare(self, conn: psycopg.Connection, storage: str, rows: Sequence[Document]) -> Difference:
        """Load the replayed documents into temporary tables and compare; names up to ten games that differ."""
        stored = self.digest(conn, storage)
        with _in_schema(conn, "pg_temp"):
            postgres_search.drop_tables(conn, _REPLAYED)
            postgres_search.create_tables(conn, _REPLAYED)
            postgres_search.bulk_load(conn, _REPLAYED, rows)
            replayed = _digest(conn, _REPLAYED)
            keys = [] if stored == replayed else _differing(conn, storage)
            postgres_search.drop_tables(conn, _REPLAYED)
        return Difference(stored[0], replayed[0], stored[1], replayed[1], keys)

    def drop(self, conn: psycopg.Connection, storage: str) -> None:
        """Drop the tables."""
        with _in_schema(conn, "read"):
            postgres_search.drop_tables(conn, storage)

    def activated(self, storage: str) -> None:
        """Nothing: queries look up the active tables."""


@contextmanager
def _in_schema(conn: psycopg.Connection, schema: str) -> Iterator[None]:
    """Have plain table names mean those of a schema; the index's functions know none."""
    with conn.transaction():
        before = conn.execute("SELECT current_setting('search_path')").fetchone()
        conn.execute("SELECT set_config('search_path', %s, true)", (schema,))
        yield  # an error rolls the setting back, too
        conn.execute("SELECT set_config('search_path', %s, true)", before)


def _row(document: GameDocument) -> Document:
    return Document(**{name: getattr(document, name) for name in GameDocument.__struct_fields__})


def _digest(conn: psycopg.Connection, table: str) -> tuple[int, str]:
    query = SQL(
        "SELECT (SELECT count(*) FROM {documents}),"
        " (SELECT coalesce(sum(hashtextextended(t::text, 0)), 0) FROM {documents} t)::text"
        " || '/' || (SELECT coalesce(sum(hashtextextended(g, uuid_hash_extended(id, 0))), 0) FROM {keys})::text"
    ).format(documents=Identifier(table), keys=Identifier(postgres_search.keys_table(table)))
    row = conn.execute(query).fetchone()
    assert row is not None
    return row[0], row[1]


def _differing(conn: psycopg.Connection, storage: str) -> list[str]:
    query = SQL(
        "SELECT id::text FROM {} a FULL JOIN pg_temp.{} b USING (id) WHERE a::text IS DISTINCT FROM b::text LIMIT 10"
    ).format(Identifier("read", storage), Identifier(_REPLAYED))
    return [row[0] for row in conn.execute(query)]
