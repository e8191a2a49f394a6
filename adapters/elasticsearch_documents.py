"""Where the documents of the search index live in Elasticsearch: the projection engine's store over the game store.

It cannot commit with a checkpoint: every write is refreshed before the checkpoint moves, and a write that is repeated
meets its own positions and changes nothing.

Anybody may drop an index, close it, or put another in its place. So each is marked when it is made, and has an alias of
its own, made last, by which it is written and searched: what took its place has no such alias, and what has the alias
but not the mark is not taken for it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import msgspec
import psycopg
from elasticsearch import Elasticsearch

from adapters.elasticsearch_failures import is_lost
from adapters.elasticsearch_store import ElasticsearchGameStore
from projections.folding import RowsRefused, StorageLost, StoreFailed
from projections.game_document import GameDocument
from projections.game_documents import Document
from projections.store import Difference


def index_name(prefix: str, storage: str) -> str:
    """The index of a storage. The prefix is an instance's own: two shops may share one Elasticsearch."""
    return f"{prefix}-{storage}"


def alias_name(prefix: str, storage: str) -> str:
    """The alias by which the index of a storage is written and searched."""
    return f"{index_name(prefix, storage)}-made"


class ElasticsearchDocuments:
    """Documents in an index per storage; the alias that `prefix` is leads to the active one.

    The connections of the calls are not used. Whatever fails is raised as StoreFailed, StorageLost or RowsRefused.
    """

    transactional = False

    def __init__(self, client: Elasticsearch, prefix: str, *, replicas: int = 0) -> None:
        self._client, self._store = client, ElasticsearchGameStore(client)
        self._prefix, self._replicas = prefix, replicas

    def prepare(self, conn: psycopg.Connection, storage: str) -> None:  # noqa: ARG002
        """Make the index unless it is there as it was made; the first one of all becomes the active one."""
        with _telling():
            if not self._is_there(storage):
                self._make(storage)
            if self._store.active_index(self._prefix) is None:
                self._store.point_alias(self._prefix, self._index(storage))

    def exists(self, conn: psycopg.Connection, storage: str) -> bool:  # noqa: ARG002
        """Whether the index is there as it was made."""
        with _telling():
            return self._is_there(storage)

    def fetch(self, conn: psycopg.Connection, storage: str, keys: Sequence[UUID]) -> Iterable[Document]:  # noqa: ARG002
        """The documents of these games, findable yet or not."""
        with _telling():
            found = [_row(document) for document in self._store.fetch(self._alias(storage), keys)]
            if len(found) < len(keys):
                self._require(storage)  # or those that are not there were lost
            return found

    def write(self, conn: psycopg.Connection, storage: str, puts: Sequence[Document], deletes: Sequence[UUID]) -> None:  # noqa: ARG002
        """Insert or replace documents, delete by game, and make it findable."""
        if not puts and not deletes:
            return
        with _telling():
            alias = self._alias(storage)
            try:
                self._store.bulk(alias, puts, require_alias=True)
            except RowsRefused:
                self._require(storage)  # or it was another index that refused them
                raise
            self._store.delete(alias, deletes)
            self._store.refresh(alias)

    def load(self, conn: psycopg.Connection, storage: str, rows: Sequence[Document]) -> None:  # noqa: ARG002
        """Fill a new index."""
        with _telling():
            self._make(storage)
            self._store.bulk(self._alias(storage), rows, require_alias=True)
            self._store.refresh(self._alias(storage))

    def digest(self, conn: psycopg.Connection, storage: str) -> tuple[int, str]:  # noqa: ARG002
        """Number of documents, and the sum of their hashes."""
        with _telling():
            return _digest(_hashes(self._store.scan(self._alias(storage))))

    def compare(self, conn: psycopg.Connection, storage: str, rows: Sequence[Document]) -> Difference:  # noqa: ARG002
        """The index beside replayed documents; names up to ten games that differ."""
        with _telling():
            stored, replayed = dict(_hashes(self._store.scan(self._alias(storage)))), dict(_hashes(rows))
        differing = [id_ for id_ in sorted(stored.keys() | replayed.keys()) if stored.get(id_) != replayed.get(id_)]
        (count, digest), (other_count, other_digest) = _digest(stored.items()), _digest(replayed.items())
        return Difference(count, other_count, digest, other_digest, [str(id_) for id_ in differing[:10]])

    def drop(self, conn: psycopg.Connection, storage: str) -> None:  # noqa: ARG002
        """Drop the index."""
        with _telling():
            self._store.drop_index(self._index(storage))

    def activated(self, storage: str) -> None:
        """Point the alias to the index."""
        with _telling():
            self._store.point_alias(self._prefix, self._index(storage))

    def _make(self, storage: str) -> None:
        """A new, empty index in the place of whatever has its name."""
        index = self._index(storage)
        self._store.drop_index(index)
        self._store.create_index(index, replicas=self._replicas)
        self._store.mark(index, self._alias(storage))

    def _is_there(self, storage: str) -> bool:
        return self._store.is_marked(self._index(storage), self._alias(storage))

    def _require(self, storage: str) -> None:
        if not self._is_there(storage):
            raise StorageLost(f"{self._index(storage)} is not there as it was made")

    def _alias(self, storage: str) -> str:
        return alias_name(self._prefix, storage)

    def _index(self, storage: str) -> str:
        return index_name(self._prefix, storage)


@contextmanager
def _telling() -> Iterator[None]:
    """Say of a failure whose it is."""
    try:
        yield
    except (StoreFailed, RowsRefused):
        raise
    except Exception as error:
        kind = StorageLost if is_lost(error) else StoreFailed
        raise kind(f"Elasticsearch: {type(error).__name__}: {error}") from error


def _row(document: GameDocument) -> Document:
    return Document(**{name: getattr(document, name) for name in GameDocument.__struct_fields__})


def _hashes(documents: Iterable[GameDocument]) -> Iterator[tuple[UUID, int]]:
    for document in documents:
        encoded = msgspec.json.encode(document)
        yield document.game_id, int.from_bytes(hashlib.sha256(encoded).digest()[:8], "big")


def _digest(hashes: Iterable[tuple[UUID, int]]) -> tuple[int, str]:
    values = [value for _, value in hashes]
    return len(values), f"{sum(values) % 2**64:016x}"
