"""The port through which the engine keeps the rows of a projection."""

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import msgspec
import psycopg

from projections.projection import Key

R = TypeVar("R", bound=msgspec.Struct)


class Difference(msgspec.Struct, frozen=True):
    """Stored rows compared with a replay: counts, order-independent hashes, and some of what
    differs: keys, and streams that only the replay could not apply."""

    stored: int
    replayed: int
    stored_hash: str
    replayed_hash: str
    keys: Sequence[str] = ()

    @property
    def equal(self) -> bool:
        """Whether all rows, and the applied events, are the same."""
        return (self.stored, self.stored_hash) == (
            self.replayed,
            self.replayed_hash,
        ) and not self.keys


class Store(Protocol[R]):
    """Stores the rows of one projection, in storages side by side (one per rebuild).

    All calls get the engine's connection. A transactional store writes with it, so that rows and
    checkpoint commit together; another (a search index) must take the same write again without
    harm.
    """

    transactional: bool

    def prepare(self, conn: psycopg.Connection, storage: str) -> None:
        """Create the storage if it does not exist."""
        ...

    def tables(self, storage: str) -> Sequence[str]:
        """The tables of the storage, in the store's schema; none for a store outside the
        database."""
        ...

    def exists(self, conn: psycopg.Connection, storage: str) -> bool:
        """Whether the storage exists: it can be lost without its checkpoint."""
        ...

    def follows(self, conn: psycopg.Connection, storage: str) -> bool:
        """Whether the storage holds nothing of another history of the log: one outside the database
        does not go back with it."""
        ...

    def fetch(self, conn: psycopg.Connection, storage: str, keys: Sequence[Key]) -> Iterable[R]:
        """The rows of these keys that exist."""
        ...

    def write(
        self, conn: psycopg.Connection, storage: str, puts: Sequence[R], deletes: Sequence[Key]
    ) -> None:
        """Insert or replace rows, and delete by key."""
        ...

    def begin(self, conn: psycopg.Connection, storage: str) -> None:
        """Create a storage to be filled, in place of one of that name; `finish` creates its
        indexes."""
        ...

    def fill(self, conn: psycopg.Connection, storage: str, rows: Iterable[R]) -> None:
        """Add new rows, in bulk. From then on `fetch` and `write` work, too."""
        ...

    def finish(self, conn: psycopg.Connection, storage: str) -> None:
        """Build the indexes of a storage that was filled."""
        ...

    def aside(self) -> "Store[R]":
        """A store for rows of the same shape that nobody else reads. Its storages go with the
        connection, or are replaced by the next of their name."""
        ...

    def digest(self, conn: psycopg.Connection, storage: str) -> tuple[int, str]:
        """Number of rows and an order-independent hash of them all."""
        ...

    def frozen(self, conn: psycopg.Connection, storage: str) -> "Frozen[R]":
        """The storage as it is now; for a transactional store, as this transaction sees it while it
        lasts."""
        ...

    def drop(self, conn: psycopg.Connection, storage: str) -> None:
        """Remove the storage."""
        ...

    def storages(self) -> Sequence[str]:
        """The existing storages of a store outside the database: when the database goes back, some
        are left that no subscription names. Empty for a transactional store, which goes back with
        it."""
        ...

    def activated(self, storage: str) -> None:
        """Called when queries begin to read this storage."""
        ...


class Frozen(Protocol[R]):
    """A storage as of one moment, to be compared with a replay."""

    def compare(self, conn: psycopg.Connection, store: Store[R], storage: str) -> Difference:
        """Compare with the rows that were replayed into a storage of this store, or of the one
        aside."""
        ...
