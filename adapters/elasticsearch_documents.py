"""Where the documents of the search index live in Elasticsearch: the projection engine's store over the game store.

It cannot commit with a checkpoint: every write is refreshed before the checkpoint moves, and a write that is repeated
meets its own positions and changes nothing.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

import msgspec
import psycopg
from elasticsearch import Elasticsearch

from adapters.elasticsearch_store import ElasticsearchGameStore
from projections.game_document import GameDocument
from projections.game_documents import Document
from projections.store import Difference


class ElasticsearchDocuments:
    """Documents in an index per storage; `alias` names the active one. The connections of the calls are not used."""

    transactional = False

    def __init__(self, client: Elasticsearch, alias: str, *, replicas: int = 0) -> None:
        self._client, self._store = client, ElasticsearchGameStore(client)
        self._alias, self._replicas = alias, replicas

    def prepare(self, conn: psycopg.Connection, storage: str) -> None:  # noqa: ARG002
        """Create the index if it is not there; the first one of all becomes the active one."""
        if not self._client.indices.exists(index=storage):
            self._store.create_index(storage, replicas=self._replicas)
        if self._store.active_index(self._alias) is None:
            self._store.point_alias(self._alias, storage)

    def fetch(self, conn: psycopg.Connection, storage: str, keys: Sequence[UUID]) -> Iterable[Document]:  # noqa: ARG002
        """The documents of these games, findable yet or not."""
        return [_row(document) for document in self._store.fetch(storage, keys)]

    def write(
        self,
        conn: psycopg.Connection,  # noqa: ARG002
        storage: str,
        puts: Sequence[Document],
        deletes: Sequence[UUID],
    ) -> None:
        """Insert or replace documents, delete by game, and make it findable."""
        if not puts and not deletes:
            return
        self._store.bulk(storage, puts)
        for game_id in deletes:
            self._client.options(ignore_status=404).delete(index=storage, id=str(game_id))
        self._store.refresh(storage)

    def load(self, conn: psycopg.Connection, storage: str, rows: Sequence[Document]) -> None:  # noqa: ARG002
        """Fill a new index."""
        self._store.create_index(storage, replicas=self._replicas)
        self._store.bulk(storage, rows)
        self._store.refresh(storage)

    def digest(self, conn: psycopg.Connection, storage: str) -> tuple[int, str]:  # noqa: ARG002
        """Number of documents, and the sum of their hashes."""
        return _digest(_hashes(self._store.scan(storage)))

    def compare(self, conn: psycopg.Connection, storage: str, rows: Sequence[Document]) -> Difference:  # noqa: ARG002
        """The index beside replayed documents; names up to ten games that differ."""
        stored, replayed = dict(_hashes(self._store.scan(storage))), dict(_hashes(rows))
        differing = [id_ for id_ in sorted(stored.keys() | replayed.keys()) if stored.get(id_) != replayed.get(id_)]
        (count, digest), (other_count, other_digest) = _digest(stored.items()), _digest(replayed.items())
        return Difference(count, other_count, digest, other_digest, [str(id_) for id_ in differing[:10]])

    def drop(self, conn: psycopg.Connection, storage: str) -> None:  # noqa: ARG002
        """Drop the index."""
        self._store.drop_index(storage)

    def activated(self, storage: str) -> None:
        """Point the alias to the index."""
        self._store.point_alias(self._alias, storage)


def _row(document: GameDocument) -> Document:
    return Document(**{name: getattr(document, name) for name in GameDocument.__struct_fields__})


def _hashes(documents: Iterable[GameDocument]) -> Iterator[tuple[UUID, int]]:
    for document in documents:
        encoded = msgspec.json.encode(document)
        yield document.game_id, int.from_bytes(hashlib.sha256(encoded).digest()[:8], "big")


def _digest(hashes: Iterable[tuple[UUID, int]]) -> tuple[int, str]:
    values = [value for _, value in hashes]
    return len(values), f"{sum(values) % 2**64:016x}"
