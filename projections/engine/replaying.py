"""Folds a projection from the start of the log into a new storage, for `rebuild` and `verify`.

Rows stay in memory until they take HELD_BYTES; then the least recently touched ones are written,
and fetched again if an event touches them. So memory is bounded, and most rows are written once:
they are touched a few times within a short while, and then never again.
"""

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy, deepcopy
from itertools import islice
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from eventstore.amendments import load
from eventstore.codec import Codec
from eventstore.consumers import checkpoints, quarantine
from eventstore.consumers.reader import Page, Reader, collector_paused
from projections.engine.folding import fold_page, mutable_fields
from projections.engine.store import Store
from projections.projection import Fetch, Key, Projection, Rows, key_of

Progress = Callable[[int, int], None]
"""Called with positions done and positions to do."""

PAGE = 50_000
"""The maximal positions per step."""

HELD_BYTES = 128 * 1024**2
"""The estimated size of the rows that are kept in memory."""

Quarantine = tuple[int, str, str]
"""The position and the wire name of the event that could not be applied, and why."""

_SAMPLE = 30
"""How many rows are measured to estimate the size of all."""

_UNKNOWN = object()
"""Stands for a row that is not held."""

_ENTRY_BYTES = 100
"""The size of a dict entry."""


class HeldRows(Rows[Any]):
    """The rows of a replay: those of the current page, and unwritten ones held in memory."""

    def __init__(self, row_type: type[msgspec.Struct], fetch: Fetch[Any]) -> None:
        super().__init__(row_type, fetch)
        self._images: list[tuple[Key, Any]] = []
        self._is_flat = not mutable_fields(row_type)
        self._decode = msgspec.json.Decoder(row_type).decode

    def prefetch(self, keys: Iterable[Key], new: Collection[Key] = ()) -> None:
        """Fetch rows, and remember held ones as they were before the page."""
        touched, held = self._touched, self._cache
        unknown = []
        wanted = dict.fromkeys(keys)
        # few look-ups: to hash a UUID is to call a function in Python
        for key in [key for key in wanted if key not in touched] if touched else wanted:
            row = held.pop(key, _UNKNOWN)
            if row is _UNKNOWN:
                touched[key] = None
                if key not in new:
                    unknown.append(key)
            else:
                touched[key] = row
                self._images.append((key, row if row is None else self._image(row)))
        for row in self._fetch(unknown):
            touched[self._key(row)] = row

    def written(self) -> None:
        """Hold the rows of the folded page, as the most recently touched."""
        self._cache.update(self._touched)
        self._touched = {}
        self._images.clear()

    def discard(self) -> None:
        """Restore the held rows after a failed page."""
        for key, image in self._images:
            self._cache[key] = self._restored(image)
        self._touched = {}
        self._images.clear()

    def _image(self, row: msgspec.Struct) -> Any:
        """A copy to restore the row from. JSON takes a tenth of the time of a deep copy, but cannot
        hold every text."""
        if self._is_flat:
            return copy(row)
        try:
            return msgspec.json.encode(row)
        except UnicodeEncodeError:
            return deepcopy(row)

    def _restored(self, image: Any) -> Any:
        return self._decode(image) if isinstance(image, bytes) else image

    def take(self, share: float) -> dict[Key, Any]:
        """Take out a share of the rows, the least recently touched; None stands for a deleted
        row."""
        if share == 1:
            rows, self._cache = self._cache, {}
            return rows
        keys = list(islice(self._cache, round(len(self._cache) * share)))
        return {key: self._cache.pop(key) for key in keys}

    def size(self) -> int:
        """The estimated bytes that the held rows take."""
        held = self._cache
        sample = [_size(row) for row in islice(held.values(), 0, None, len(held) // _SAMPLE + 1)]
        return len(held) * (sum(sample) // len(sample) + _ENTRY_BYTES) if sample else 0


class Replay:
    """A projection folded from the start into a new storage.

    The streams that `subscription` has in quarantine are left out from the failed event on, except
    those `retried`: the result is what its rows should be.
    """

    def __init__(
        self,
        conn: psycopg.Connection,
        codec: Codec,
        projection: Projection[Any],
        store: Store[Any],
        storage: str,
        subscription: str,
        retried: Collection[UUID] = (),
        name: str | None = None,
        as_of: int | None = None,
    ) -> None:
        """Makes the storage. `name` tells several replays of a projection apart, if they may run at
        a time. Events are read by the amendments that the subscription has taken up, or by those of
        a past position."""
        self.name = name or projection.name
        self._conn = conn
        self._codec = codec
        self._projection = projection
        self._store = store
        self.storage = storage
        followed = checkpoints.subscription(conn, subscription)
        taken_up = 0 if followed is None else followed.amended
        self.amended = taken_up if as_of is None else as_of
        """Up to which position amendments count."""
        self._amendments = load(conn).as_of(self.amended)
        self.reader = Reader(codec, codec.names_of(projection.folds), amendments=self._amendments)
        self._names = frozenset(self.reader.names)
        mended = self._amendments.payloads if as_of is not None else {}
        quarantined = [
            p
            for p in quarantine.held(conn, [subscription])
            if p.stream_id not in retried and p.position not in mended
        ]
        self.quarantined: dict[UUID, Quarantine] = {
            p.stream_id: (p.position, p.name, p.error) for p in quarantined
        }
        self.position = 0
        self._rows = HeldRows(projection.row, self._fetch)
        self._key = key_of(projection.row)
        self._filled = False
        self._held_bytes = HELD_BYTES
        self._stored: set[Key] = set()  # keys in memory that have a row in the storage
        store.begin(conn, storage)

    def advance(self, upto: int, progress: Progress = lambda _done, _all: None) -> None:
        """Fold up to a position. Streams with an event that cannot be applied are left out from
        there on."""
        while self.position < upto:
            self._read_and_fold(min(upto, self.position + PAGE))
            if self.held() > self._held_bytes:
                self.spill()
            progress(self.position, upto)

    def fold(self, page: Page, end: int) -> None:
        """Fold a page of events in memory, after which the replay is at position `end`. Events that
        the projection does not fold may be among them."""
        quarantined = {
            stream_id: position for stream_id, (position, _, _) in self.quarantined.items()
        }
        for found in fold_page(
            self._projection,
            self._names,
            self._rows,
            quarantined,
            page,
            presume_new=self._store.transactional and self._filled,
        ):
            self.quarantined[found.stream_id] = found[1:]
        self._rows.written()
        self.position = end

    def held(self) -> int:
        """The estimated bytes that the rows in memory take."""
        return self._rows.size()

    def spill(self) -> None:
        """Write half of the rows in memory, the least recently touched."""
        self._write(0.5)

    def write(self) -> None:
        """Write what is still in memory."""
        self._write(1.0)

    def finish_at(self, upto: int) -> None:
        """Fold up to a position, and write."""
        self.advance(upto)
        self.write()

    # -- in parts: see `parts` ---------------------------------------------------------------------

    @property
    def is_divisible(self) -> bool:
        """Whether streams may be folded apart from each other, and their rows written by several
        connections."""
        return self._store.transactional and not self._projection.mixes_streams

    def prepare_parts(self) -> None:
        """Make the storage ready for several writers: with its key, which one of them would have to
        make while the others wait for it."""
        self._store.fill(self._conn, self.storage, [])
        self._filled = True

    def become_part(self, conn: psycopg.Connection, part: tuple[int, int]) -> None:
        """Fold only the streams of one part, over another connection: in a process of its own.

        `part` is its number, counted from 0, and the number of parts.
        """
        self._conn = conn
        self.reader = Reader(self._codec, self.reader.names, part, self._amendments)
        self._held_bytes //= part[1]

    def parts_done(self, upto: int, quarantined: Mapping[UUID, Quarantine]) -> None:
        """Go on from where all parts are."""
        self.position = upto
        self.quarantined.update(quarantined)

    # -- pages -------------------------------------------------------------------------------------

    @collector_paused()
    def _read_and_fold(self, upto: int) -> None:
        self.fold(*self.reader.next_page(self._conn, self.position, upto))

    def _write(self, share: float) -> None:
        rows = self._rows.take(share)
        again = {key: rows.pop(key) for key in self._stored & rows.keys()}
        self._stored.difference_update(again)
        new = [row for row in rows.values() if row is not None]
        changed = [row for row in again.values() if row is not None]
        gone = [key for key, row in again.items() if row is None]
        with self._conn.transaction():
            if new or not self._filled:
                self._store.fill(self._conn, self.storage, new)
            self._store.write(self._conn, self.storage, changed, gone)
        self._filled = True

    def _fetch(self, keys: Sequence[Key]) -> Iterable[msgspec.Struct]:
        if not (self._filled and keys):
            return ()
        found = list(self._store.fetch(self._conn, self.storage, keys))
        self._stored.update(map(self._key, found))
        return found


def _size(value: object) -> int:
    """The bytes of a value with all that it contains."""
    size = sys.getsizeof(value)
    if isinstance(value, UUID):
        return size + sys.getsizeof(value.int)
    if isinstance(value, msgspec.Struct):
        return size + sum(_size(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, dict):
        return size + sum(_size(key) + _size(each) for key, each in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return size + sum(map(_size, value))
    return size
