"""What the nodes of the KurrentDB double have in common: records in one order, and streams."""

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from threading import Condition
from typing import BinaryIO
from uuid import uuid4

import msgspec

NO_STREAM, ANY, EXISTS, DELETED, TOMBSTONED = -1, -2, -4, -5, -6
"""Expected and actual states of a stream, beside its revision."""

FOR_EVER = 2**63 - 1
"""The `$tb` of a deleted stream's metadata."""

_JSON, _BYTES = "application/json", "application/octet-stream"

_length = Struct(">I")


class NewRecord(msgspec.Struct, frozen=True):
    """A record to append."""

    id: str
    type: str
    content_type: str
    data: bytes
    metadata: bytes


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A record in the log. `position` grows with gaps, as the real server's byte offsets do;
    `created` is in 100 ns since 1970."""

    position: int
    stream: str
    revision: int
    id: str
    type: str
    content_type: str
    data: bytes
    metadata: bytes
    created: int


class StreamBatch(msgspec.Struct, frozen=True):
    """Records for one stream, which must be in the `expected` state."""

    stream: str
    expected: int
    records: Sequence[NewRecord]


class Conflict(Exception):
    """A stream is not in the expected state; `index` is that of the failed check, if it was one."""

    def __init__(self, stream: str, expected: int, actual: int, index: int = -1) -> None:
        super().__init__(f"{stream}: expected {expected}, is at {actual}")
        self.stream, self.expected, self.actual, self.index = stream, expected, actual, index


class Tombstoned(Exception):
    """The stream was deleted for ever."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream


_decode = msgspec.msgpack.Decoder(list[Record]).decode


class Store:
    """The log. With a folder it is kept there, each append flushed whole: what a killed process
    had acknowledged, another one has."""

    def __init__(self, folder: Path | None = None) -> None:
        self.changed = Condition()
        """Held for every access; notified of each append."""
        self.log: list[Record] = []
        self._streams: defaultdict[str, list[Record]] = defaultdict(list)
        self._by_id: dict[str, Record] = {}
        self._file: BinaryIO | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self._opened(folder / "records")

    def _opened(self, path: Path) -> BinaryIO:
        file = path.open("a+b")
        file.seek(0)
        whole = 0
        while len(head := file.read(_length.size)) == _length.size:
            (size,) = _length.unpack(head)
            if len(body := file.read(size)) < size:
                break
            for record in _decode(body):
                self._index(record)
            whole = file.tell()
        file.truncate(whole)  # an append that a kill cut off
        return file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    # -- reading; `changed` must be held -----------------------------------------------------------

    def visible(self, stream: str) -> list[Record]:
        """A stream's records that are not deleted. Raises Tombstoned."""
        if self._is_tombstoned(stream):
            raise Tombstoned(stream)
        return self._streams.get(stream, [])[self._kept_from(stream) :]

    def state(self, stream: str) -> int:
        """The revision of a stream's last record, NO_STREAM, DELETED or TOMBSTONED."""
        if self._is_tombstoned(stream):
            return TOMBSTONED
        records = self._streams.get(stream)
        if not records:
            return NO_STREAM
        last = records[-1].revision
        return last if last >= self._kept_from(stream) else DELETED

    def _kept_from(self, stream: str) -> int:
        """The first revision that is not deleted."""
        found = self._streams.get(f"$${stream}")
        return int(msgspec.json.decode(found[-1].data).get("$tb", 0)) if found else 0

    def _is_tombstoned(self, stream: str) -> bool:
        records = self._streams.get(stream, [])
        return bool(records) and records[-1].type == "$streamDeleted"

    # -- appending ---------------------------------------------------------------------------------

    def append(
        self, batches: Sequence[StreamBatch], checks: Sequence[tuple[str, int]] = ()
    ) -> tuple[int, dict[str, int]]:
        """Append to several streams, all or nothing. Returns the last record's position, and the
        revision that each stream has now. Raises Conflict, Tombstoned.

        An append that was made before, with the same ids at the same expected state, is not made
        again, and succeeds.
        """
        with self.changed:
            for index, (stream, expected) in enumerate(checks):
                self._check(stream, expected, index)
            new = [batch for batch in batches if not self._is_done(batch)]
            for batch in new:
                self._check(batch.stream, batch.expected)
            for batch in new:
                if self._kept_from(batch.stream) == FOR_EVER:  # a deleted stream begins again
                    self._keep_from(batch.stream, len(self._streams[batch.stream]))
            self._write([self._add(batch.stream, each) for batch in new for each in batch.records])
            ends = [self._streams[batch.stream][-1] for batch in batches]
            return max(end.position for end in ends), {end.stream: end.revision for end in ends}

    def delete(self, stream: str, expected: int, *, for_ever: bool) -> int:
        """Delete a stream's records, or the stream for ever. Returns the position. Raises
        Conflict, Tombstoned."""
        with self.changed:
            self._check(stream, expected)
            if for_ever:
                end = NewRecord(str(uuid4()), "$streamDeleted", _BYTES, b"", b"")
                self._write([self._add(stream, end)])
            else:
                self._keep_from(stream, FOR_EVER)
            return self.log[-1].position

    def go_back(self, position: int) -> None:
        """Lose everything after a position, as a restored backup has."""
        with self.changed:
            kept = [record for record in self.log if record.position <= position]
            self.log, self._streams, self._by_id = [], defaultdict(list), {}
            for record in kept:
                self._index(record)
            if self._file is not None:
                self._file.truncate(0)
            self._write(kept)

    def scavenge(self) -> None:
        """Remove from the order of all what is deleted, as the real server does when asked to."""
        with self.changed:
            self.log = [each for each in self.log if each.revision >= self._kept_from(each.stream)]

    def _check(self, stream: str, expected: int, index: int = -1) -> None:
        actual = self.state(stream)
        if actual == TOMBSTONED:
            raise Tombstoned(stream)
        absent = actual in (NO_STREAM, DELETED)
        fits = (
            expected in (ANY, actual)
            or (expected == EXISTS and not absent)
            or (expected == NO_STREAM and absent)
        )
        if not fits:
            raise Conflict(stream, expected, actual, index)

    def _is_done(self, batch: StreamBatch) -> bool:
        """Whether the batch was appended before."""
        first = self._by_id.get(batch.records[0].id)
        if first is None or first.stream != batch.stream:
            return False
        if batch.expected not in (ANY, EXISTS, first.revision - 1):
            return False
        there = self._streams[batch.stream][first.revision :]
        return [each.id for each in batch.records] == [
            each.id for each in there[: len(batch.records)]
        ]

    def _add(self, stream: str, new: NewRecord) -> Record:
        """Give a record its place. It must be written, too."""
        record = Record(
            (self.log[-1].position if self.log else 0) + 64 + len(new.data),
            stream,
            len(self._streams[stream]),
            new.id,
            new.type,
            new.content_type,
            new.data,
            new.metadata,
            time.time_ns() // 100,
        )
        self._index(record)
        return record

    def _keep_from(self, stream: str, revision: int) -> None:
        """Hide a stream's records before a revision, as its metadata say."""
        kept = msgspec.json.encode({"$tb": revision})
        note = NewRecord(str(uuid4()), "$metadata", _JSON, kept, b"")
        self._write([self._add(f"$${stream}", note)])

    def _index(self, record: Record) -> None:
        self.log.append(record)
        self._streams[record.stream].append(record)
        self._by_id[record.id] = record

    def _write(self, records: list[Record]) -> None:
        """Keep records that have their places, and tell the waiting."""
        if self._file is not None and records:
            body = msgspec.msgpack.encode(records)
            self._file.write(_length.pack(len(body)) + body)
            self._file.flush()
        self.changed.notify_all()

    def wait_for_records(self, count: int, seconds: float = 20.0) -> None:
        """Wait until there are so many, of whatever kind. Raises TimeoutError."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.log) >= count, seconds):
                raise TimeoutError(f"{len(self.log)} records of {count}")
