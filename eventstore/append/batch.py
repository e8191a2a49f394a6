"""Appends that go to the database as one statement: which can share one, and what it asks for."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec

from eventstore.append import binary_arrays as pg
from eventstore.append.pending import Pending
from eventstore.flight import Flight


class Touched:
    """The streams and keys that appends write, and the streams that they read."""

    def __init__(self, appends: Iterable[Pending] = ()) -> None:
        self.written: set[bytes] = set()
        self.read: set[bytes] = set()
        for pending in appends:
            self.add(pending)

    def add(self, pending: Pending) -> None:
        """Add what an append touches."""
        self.written.update(pending.claims)
        self.read.update(pending.rests_on)

    def is_free_for(self, pending: Pending) -> bool:
        """Whether an append writes and reads nothing that these write, and writes nothing that
        these read."""
        return (
            self.written.isdisjoint(pending.claims)
            and (not pending.rests_on or self.written.isdisjoint(pending.rests_on))
            and (not self.read or self.read.isdisjoint(pending.claims))
        )


class Batch:
    """Appends in order. One may continue a stream where an earlier one leaves it."""

    def __init__(self) -> None:
        self.appends: list[Pending] = []
        self.size = 0
        """Bytes of events on the wire."""
        self._touched = Touched()
        self._flights: set[Flight] = set()
        self._left: dict[bytes, tuple[int, str]] = {}  # version and kind of a stream afterwards

    def add(self, pending: Pending) -> None:
        """Append it after the others."""
        self.appends.append(pending)
        self.size += pending.size
        self._touched.add(pending)
        self._flights.add(pending.flight)
        self._left.update((stream, (version, kind)) for stream, version, kind in pending.leaves)

    def awaits(self, pending: Pending) -> bool:
        """Whether the append rests on one that is neither in the log nor in this batch."""
        return any(
            not each.landed and each not in self._flights for each in pending.flight.rests_on
        )

    def fits(self, pending: Pending) -> bool:
        """Whether the append can follow the others: it touches nothing of theirs, or continues
        it."""
        return self._touched.is_free_for(pending) or self._continues(pending)

    def _continues(self, pending: Pending) -> bool:
        expected = {stream.bytes: (version, kind) for stream, version, kind in pending.checks}
        return (
            bool(pending.flight.rests_on)
            and (pending.once is None or pending.once.key.bytes not in self._touched.written)
            and all(
                self._left[stream] == expected[stream]
                for stream in expected.keys() & self._left.keys()
            )
            and all(
                self._left[read.stream_id.bytes][0] == read.version
                for read in pending.reads
                if read.stream_id.bytes in self._left
            )
            and self._touched.read.isdisjoint(expected)
        )


Check = tuple[UUID, int, str, int]
"""Stream, expected version and kind, and the number of the append in its batch."""


def expectations(batch: Sequence[Pending]) -> tuple[list[Check], list[tuple[UUID, int, int]]]:
    """What a batch expects of the log: the streams that it continues, and those that it reads
    (stream, version and number of the append). What an earlier append of the batch has written is
    left out."""
    checks = [(*check, n) for n, pending in enumerate(batch) for check in pending.checks]
    reads = [
        (read.stream_id, read.version, n)
        for n, pending in enumerate(batch)
        for read in pending.reads
    ]
    if any(pending.flight.rests_on for pending in batch):
        first: dict[bytes, int] = {}
        for n, pending in enumerate(batch):
            for stream in pending.claims:
                first.setdefault(stream, n)
        checks = [check for check in checks if first[check[0].bytes] == check[3]]
        reads = [read for read in reads if first.get(read[0].bytes, read[2]) >= read[2]]
    return checks, reads


def arguments(batch: Sequence[Pending], new_event: int, new_once: int) -> list[bytes]:
    """A batch as the first parameters of log.append_v4, in order; `new_event` and `new_once` are
    the object ids of its types."""
    checks, reads = expectations(batch)
    checks = [check for check in checks if check[1] > 0]
    onces, last = [], 0
    for pending in batch:
        last += len(pending.wires)
        if (once := pending.once) is not None:
            result_ids = msgspec.json.encode(once.result_ids).decode()
            onces.append(pg.new_once(once.key, once.fingerprint, result_ids, once.expires_at, last))
    return [
        pg.array(new_event, [wire for pending in batch for wire in pending.wires]),
        pg.digests([digest for pending in batch for digest in pending.digests]),
        pg.uuids([stream_id for stream_id, *_ in checks]),
        pg.bigints([version for _, version, *_ in checks]),
        pg.texts([kind for _, _, kind, _ in checks]),
        pg.uuids([stream_id for stream_id, *_ in reads]),
        pg.bigints([version for _, version, _ in reads]),
        pg.array(new_once, onces),
    ]
