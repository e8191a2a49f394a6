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


def index_name(prefix: str, storage: str) -> str:
    """The index of a storage. The prefix is an instance's own: two shops may share one Elasticsearch."""
    return f"{prefix}-{storage}"


class IndexLost(Exception):
    """An index that there was is no longer there: its server came back without its data, or somebody dropped it."""


class ElasticsearchDocuments:
    """Documents in an index per storage; the alias that `prefix` is leads to the active one.

    The connections of the calls are not used.
    """

    transactional = False

    def __init__(self, client: Elasticsearch, prefix: str, *, replicas: int = 0) -> None:
        self._client, self._store = client, ElasticsearchGameStore(client)
        self._prefix, self._replicas = prefix, replicas

    def prepare(self, conn: psycopg.Connection, storage: str) -> None:
        """Create the index if it is not there; the first one of all becomes the active one."""
        if not self.exists(conn, storage):
            self._store.create_index(self._index(storage), replicas=self._replicas)
        if self._store.active_index(self._prefix) is None:
            self._store.point_alias(self._prefix, self._index(storage))

    def exists(self, conn: psycopg.Connection, storage: str) -> bool:  # noqa: ARG002
        """Whether the index is there."""
        return bool(self._client.indices.exists(index=self._index(storage)))

    def fetch(self, conn: psycopg.Connection, storage: str, keys: Sequence[UUID]) -> Iterable[Document]:
        """The documents of these games, findable yet or not. Raises IndexLost."""
        self._require(conn, storage)  # which the server would not say
        return [_row(document) for document in self._store.fetch(self._index(storage), keys)]

    def write(self, conn: psycopg.Connection, storage: str, puts: Sequence[Document], deletes: Sequence[UUID]) -> None:
        """Insert or replace documents, delete by game, and make it findable. Raises IndexLost."""
        if not puts and not deletes:
            return
        self._require(conn, storage)  # or the server would make one of its own, of another shape
        index = self._index(storage)
        self._store.bulk(index, puts)
        for game_id in deletes:
            self._client.options(ignore_status=404).delete(index=index, id=str(game_id))
        self._store.refresh(index)

    def load(self, conn: psycopg.Connection, storage: str, rows: Sequence[Document]) -> None:  # noqa: ARG002
        """Fill a new index."""
        index = self._index(storage)
        self._store.create_index(index, replicas=self._replicas)
        self._store.bulk(index, rows)
        self._store.refresh(index)

    def digest(self, conn: psycopg.Connection, storage: str) -> tuple[int, str]:  # noqa: ARG002
        """Number of documents, and the sum of their hashes."""
        return _digest(_hashes(self._store.scan(self._index(storage))))

    def compare(self, conn: psycopg.Connection, storage: str, rows: Sequence[Document]) -> Difference:  # noqa: ARG002
        """The index beside replayed documents; names up to ten games that differ."""
        stored, replayed = dict(_hashes(self._store.scan(self._index(storage)))), dict(_hashes(rows))
        differing = [id_ for id_ in sorted(stored.keys() | replayed.keys()) if stored.get(id_) != replayed.get(id_)]
        (count, digest), (other_count, other_digest) = _digest(stored.items()), _digest(replayed.items())
        return Difference(count, other_count, digest, other_digest, [str(id_) for id_ in differing[:10]])

    def drop(self, conn: psycopg.Connection, storage: str) -> None:  # noqa: ARG002
        """Drop the index."""
        self._store.drop_index(self._index(storage))

    def activated(self, storage: str) -> None:
        """Point the alias to the index."""
        self._store.point_alias(self._prefix, self._index(storage))

    def _require(self, conn: psycopg.Connection, storage: str) -> None:
        if not self.exists(conn, storage):
            raise IndexLost(self._index(storage))

    def _index(self, storage: str) -> str:
        return index_name(self._prefix, storage)


def _row(document: GameDocument) -> Document:
    return Document(**{name: getattr(document, name) for name in GameDocument.__struct_fields__})


def _hashes(documents: Iterable[GameDocument]) -> Iterator[tuple[UUID, int]]:
    for document in documents:
        encoded = msgspec.json.encode(document)
        yield document.game_id, int.from_bytes(hashlib.sha256(encoded).digest()[:8], "big")


def _digest(hashes: Iterable[tuple[UUID, int]]) -> tuple[int, str]:
    values = [value for _, value in hashes]
    return len(values), f"{sum(values) % 2**64:016x}"
