"""The projection engine's store of search documents in Elasticsearch, over the game store.

It cannot commit together with a checkpoint: every write is refreshed before the checkpoint moves,
and a repeated write meets its own positions and has no effect.

Anybody may drop an index, close it, or put another in its place. So each is marked when it is
created, and has an alias of its own, created last, through which it is written and searched. A
replacement lacks the alias, and an index with the alias but without the mark is not accepted.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from uuid import UUID

import msgspec
import psycopg
from elasticsearch import Elasticsearch

from adapters.elasticsearch.bulk import CHUNK
from adapters.elasticsearch.failures import is_lost
from adapters.elasticsearch.store import Between, ElasticsearchGameStore
from kit.ahead import at_once
from kit.wording import described
from projections.engine.folding import RowsRefused, StorageLost, StoreFailed
from projections.engine.store import Difference, Store
from projections.search.document import GameDocument
from projections.search.projection import Document

NAMED = 10
"""How many differing games a comparison names."""

REQUESTS_AT_ONCE = 2
"""Bulk requests under way at once: while Elasticsearch works on one, the next is made."""

_ASIDE = "aside"


def index_name(prefix: str, storage: str) -> str:
    """The index of a storage. The prefix belongs to an instance: two shops may share one
    Elasticsearch."""
    return f"{prefix}-{storage}"


def alias_name(prefix: str, storage: str) -> str:
    """The alias through which the index of a storage is written and searched."""
    return f"{index_name(prefix, storage)}-made"


class ElasticsearchDocuments:
    """Documents in one index per storage; the alias named like `prefix` points to the active one.

    The connections passed in are asked about the log, and kept visibly alive. All failures of
    Elasticsearch are raised as StoreFailed, StorageLost or RowsRefused.
    """

    transactional = False

    def __init__(self, client: Elasticsearch, prefix: str, *, replicas: int = 0) -> None:
        self._client = client
        self._store = ElasticsearchGameStore(client)
        self._prefix = prefix
        self._replicas = replicas
        self._counted: dict[str, int] = {}

    def prepare(self, conn: psycopg.Connection, storage: str) -> None:  # noqa: ARG002
        """Create the index unless it exists as created; the very first
        one becomes the active one."""
        with _telling():
            if not self._is_there(storage):
                self._make(storage)
            if self._store.active_index(self._prefix) is None:
                self._store.point_alias(self._prefix, self._index(storage))

    def tables(self, storage: str) -> Sequence[str]:  # noqa: ARG002
        """Nothing: an index is outside the database."""
        return ()

    def exists(self, conn: psycopg.Connection, storage: str) -> bool:  # noqa: ARG002
        """Whether the index exists as created."""
        with _telling():
            return self._is_there(storage)

    def follows(self, conn: psycopg.Connection, storage: str) -> bool:
        """Whether the log has the newest document's event: otherwise the log went back without the
        index."""
        with _telling():
            newest = self._store.newest(self._alias(storage))
        if newest is None:
            return True
        position, event_id = newest
        return str(_event_ids(conn, [position]).get(position)) == event_id

    def fetch(
        self, conn: psycopg.Connection, storage: str, keys: Sequence[UUID]
    ) -> Iterable[Document]:
        """The documents of these games, searchable yet or not."""
        with _telling():
            found = [
                _row(each)
                for each in self._store.fetch(self._alias(storage), keys, between=_alive(conn))
            ]
            if len(found) < len(keys):
                self._require(storage)  # otherwise the missing ones may have been lost
            return found

    def write(
        self,
        conn: psycopg.Connection,
        storage: str,
        puts: Sequence[Document],
        deletes: Sequence[UUID],
    ) -> None:
        """Insert or replace documents, delete by game, and make the changes searchable."""
        if not puts and not deletes:
            return
        with _telling():
            alias = self._alias(storage)
            try:
                created = self._put_all(conn, alias, puts)
            except RowsRefused:
                self._require(storage)  # otherwise another index may have refused them
                raise
            if deletes:
                self._store.delete(alias, deletes, between=_alive(conn))
                self._counted.pop(storage, None)
            self._store.refresh(alias)
            self._counted[storage] = self._counted.get(storage, 0) + created

    def begin(self, conn: psycopg.Connection, storage: str) -> None:  # noqa: ARG002
        """Create a new index in place of any with its name."""
        with _telling():
            self._make(storage)

    def fill(self, conn: psycopg.Connection, storage: str, rows: Iterable[Document]) -> None:
        """Insert documents, readable by their ids."""
        with _telling():
            self._put_all(conn, self._alias(storage), rows)

    def finish(self, conn: psycopg.Connection, storage: str) -> None:  # noqa: ARG002
        """Make them searchable."""
        with _telling():
            self._store.refresh(self._alias(storage))

    def aside(self) -> "ElasticsearchDocuments":
        """The same with a prefix of its own."""
        return ElasticsearchDocuments(self._client, f"{self._prefix}-{_ASIDE}")

    def digest(self, conn: psycopg.Connection, storage: str) -> tuple[int, str]:  # noqa: ARG002
        """Number of documents, and the sum of their hashes."""
        with _telling():
            return _digest(self.scan(storage))

    def frozen(self, conn: psycopg.Connection, storage: str) -> "FrozenIndex":  # noqa: ARG002
        """The index as of now, for one scan."""
        with _telling():
            return FrozenIndex(self.scan(storage))

    def scan(self, storage: str) -> Iterator[GameDocument]:
        """The documents by id, as of this call."""
        return self._store.scan(self._alias(storage))

    def drop(self, conn: psycopg.Connection, storage: str) -> None:  # noqa: ARG002
        with _telling():
            self._store.drop_index(self._index(storage))

    def storages(self) -> Sequence[str]:
        """The storages whose indices we created, without those of a verify, which the next verify
        replaces."""
        with _telling():
            found = [
                name.removeprefix(f"{self._prefix}-")
                for name in self._store.made(f"{self._prefix}-*")
            ]
        return [storage for storage in found if not storage.startswith(f"{_ASIDE}-")]

    def activated(self, storage: str) -> None:
        """Point the alias to the index."""
        with _telling():
            self._store.point_alias(self._prefix, self._index(storage))

    def _put_all(self, conn: psycopg.Connection, alias: str, rows: Iterable[Document]) -> int:
        """Insert or replace documents, in several requests at once. Returns how many are new."""
        return sum(at_once(partial(self._put, conn, alias), _parts(rows), REQUESTS_AT_ONCE))

    def _put(self, conn: psycopg.Connection, alias: str, some: Sequence[Document]) -> int:
        event_ids = _event_ids(conn, [each.position for each in some])
        return self._store.bulk(alias, some, event_ids, require_alias=True, between=_alive(conn))

    def _make(self, storage: str) -> None:
        """Create a new, empty index in place of any with its name."""
        index = self._index(storage)
        self._counted.pop(storage, None)
        self._store.drop_index(index)
        self._store.create_index(index, replicas=self._replicas)
        self._store.mark(index, self._alias(storage))

    def _is_there(self, storage: str) -> bool:
        if not self._store.is_marked(self._index(storage), self._alias(storage)):
            return False
        before, now = self._counted.get(storage, 0), self._store.count(self._alias(storage))
        self._counted[storage] = max(before, now)
        return now >= before  # only others remove documents

    def _require(self, storage: str) -> None:
        if not self._is_there(storage):
            raise StorageLost(f"{self._index(storage)} is not there as it was made")

    def _alias(self, storage: str) -> str:
        return alias_name(self._prefix, storage)

    def _index(self, storage: str) -> str:
        return index_name(self._prefix, storage)


class FrozenIndex:
    """An index as of the start of its scan."""

    def __init__(self, scan: Iterator[GameDocument]) -> None:
        self._scan = scan

    def compare(self, conn: psycopg.Connection, store: Store[Document], storage: str) -> Difference:
        """Compare document by document, in the order of their ids."""
        assert isinstance(store, ElasticsearchDocuments)
        with _telling():
            store.finish(conn, storage)
            stored, replayed = _Sum(), _Sum()
            keys: list[str] = []
            for id_, one, other in _side_by_side(self._scan, store.scan(storage)):
                hashes = stored.add(one), replayed.add(other)
                if hashes[0] != hashes[1] and len(keys) < NAMED:
                    keys.append(str(id_))
        return Difference(stored.count, replayed.count, stored.digest, replayed.digest, keys)


def _parts(rows: Iterable[Document]) -> Iterator[Sequence[Document]]:
    left = iter(rows)
    while some := list(islice(left, CHUNK)):
        yield some


def _alive(conn: psycopg.Connection) -> Between:
    """A statement that keeps the leader's session active: with a slow server, a page takes longer
    than it may be idle."""
    return partial(conn.execute, "SELECT 1")


@contextmanager
def _telling() -> Iterator[None]:
    """Raise failures by whose fault they are."""
    try:
        yield
    except (StoreFailed, RowsRefused, psycopg.Error):
        raise
    except Exception as error:
        kind = StorageLost if is_lost(error) else StoreFailed
        raise kind(f"Elasticsearch: {described(error)}") from error


def _event_ids(conn: psycopg.Connection, positions: Sequence[int]) -> dict[int, UUID]:
    rows = conn.execute(
        "SELECT position, event_id FROM log.events WHERE position = ANY (%s)", (list(positions),)
    )
    return dict(rows.fetchall())


def _row(document: GameDocument) -> Document:
    return Document(**{name: getattr(document, name) for name in GameDocument.__struct_fields__})


class _Sum:
    """Number of documents, and the sum of their hashes, independent of their order."""

    def __init__(self) -> None:
        self.count = self._sum = 0

    def add(self, document: GameDocument | None) -> int:
        """Add a document. Returns its hash; 0 for None."""
        if document is None:
            return 0
        value = int.from_bytes(hashlib.sha256(msgspec.json.encode(document)).digest()[:8], "big")
        self.count = self.count + 1
        self._sum = (self._sum + value) % 2**64
        return value

    @property
    def digest(self) -> str:
        return f"{self._sum:016x}"


def _digest(documents: Iterable[GameDocument]) -> tuple[int, str]:
    found = _Sum()
    for document in documents:
        found.add(document)
    return found.count, found.digest


def _side_by_side(
    some: Iterator[GameDocument], others: Iterator[GameDocument]
) -> Iterator[tuple[UUID, GameDocument | None, GameDocument | None]]:
    """Pairs of documents with the same id, in the order of ids; None where one side has none."""
    one, other = next(some, None), next(others, None)
    while one is not None or other is not None:
        first = min(str(each.game_id) for each in (one, other) if each is not None)
        here = one if one is not None and str(one.game_id) == first else None
        there = other if other is not None and str(other.game_id) == first else None
        yield UUID(first), here, there
        one = next(some, None) if here else one
        other = next(others, None) if there else other
