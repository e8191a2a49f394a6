"""Moving windows of rate limits in memory that processes share: a limit holds for all of them
together."""

import fcntl
import hashlib
import os
import struct
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from limits.aio.storage import Storage
from limits.aio.storage.base import MovingWindowSupport

TABLE_BYTES = 32 << 20
"""The memory for all keys of one limit. It takes room as keys appear: at most this much, however
many clients there are."""

WAYS = 8
"""In how many rows a key may be. If all are in use, the one that expires first is given up."""

LOCK_SECONDS = 0.05
"""How long to wait for a process that holds the lock of a key: one that is not running just now
lets go of it soon, unless it was stopped."""

_ROW = struct.Struct("=16sdQ")
"""A key's digest, when the row expires, and how many requests there have been. The times of the
latest follow. All times are of the monotonic clock, which all processes share."""

_TIME = 8

_SECRET_BYTES = 64
"""At the beginning of the memory: the key of the digests."""


class _Row(NamedTuple):
    place: int
    expires: float
    hits: int


class _Table:
    """Rows that keep the times of the latest `limit` requests each."""

    def __init__(self, memory: memoryview, start: int, limit: int) -> None:
        self.start = start
        self.limit = limit
        self.row_bytes = _ROW.size + _TIME * limit
        self.rows = TABLE_BYTES // self.row_bytes
        self._memory = memory

    def bucket(self, digest: bytes) -> int:
        """Where the rows begin in which a key may be."""
        number = int.from_bytes(digest[:8]) % (self.rows - WAYS)
        return self.start + number * self.row_bytes

    def find(self, digest: bytes, now: float) -> _Row | None:
        """The row of a key that has not expired."""
        bucket = self.bucket(digest)
        for place in range(bucket, bucket + WAYS * self.row_bytes, self.row_bytes):
            of, expires, hits = _ROW.unpack_from(self._memory, place)
            if of == digest and expires > now:
                return _Row(place, expires, hits)
        return None

    def claim(self, digest: bytes) -> _Row:
        """A row for a new key: an empty or expired one, or the one that expires first."""
        bucket = self.bucket(digest)
        places = range(bucket, bucket + WAYS * self.row_bytes, self.row_bytes)
        return _Row(min(places, key=self._expires), 0.0, 0)

    def _expires(self, place: int) -> float:
        expires: float = _ROW.unpack_from(self._memory, place)[1]
        return expires

    def times(self, row: _Row) -> "memoryview[float]":
        """The times of the latest requests; request `n` is at `n % limit`."""
        first = row.place + _ROW.size
        return self._memory[first : first + _TIME * self.limit].cast("d")

    def write(self, row: _Row, digest: bytes) -> None:
        """Save a row."""
        _ROW.pack_into(self._memory, row.place, digest, row.expires, row.hits)


class SharedWindows(Storage, MovingWindowSupport):
    """A storage for the `limits` library, for the given limits: at the beginning of the memory
    behind the descriptor.

    Processes lock the few rows that they change, and the kernel unlocks them for one that is
    killed. If one is stopped in between, the others go on: a request may then not be counted.
    """

    STORAGE_SCHEME = None

    def __init__(self, descriptor: int, memory: memoryview, limits: set[int]) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._secret = bytes(memory[:_SECRET_BYTES])
        self._tables = {
            limit: _Table(memory, _SECRET_BYTES + n * TABLE_BYTES, limit)
            for n, limit in enumerate(sorted({1, *limits}))
        }

    @staticmethod
    def size(limits: set[int]) -> int:
        """The bytes that these limits need."""
        return _SECRET_BYTES + len({1, *limits}) * TABLE_BYTES

    @staticmethod
    def prepare(descriptor: int) -> None:
        """Put a secret into new memory. Who knew which keys get the same rows could have a key's
        requests forgotten, by requests of others that he chooses."""
        os.pwrite(descriptor, os.urandom(_SECRET_BYTES), 0)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count a request unless there have been `limit` within `expiry` seconds."""
        digest, table = self._digest(key), self._tables[limit]
        with self._locked(table, digest):
            now = time.monotonic()
            row = table.find(digest, now) or table.claim(digest)
            times = table.times(row)
            count = row.hits
            for _ in range(amount):
                # the place of the next one holds the one `limit` before it
                if count >= limit and times[count % limit] >= now - expiry:
                    # who goes on asking is not the first to be forgotten
                    table.write(_Row(row.place, now + expiry, row.hits), digest)
                    return False
                times[count % limit] = now
                count += 1
            table.write(_Row(row.place, now + expiry, count), digest)
        return True

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        """When (by the clock) the oldest request of the last `expiry` seconds came, and how many
        there were."""
        table, now = self._tables[limit], time.monotonic()
        row = table.find(self._digest(key), now)
        if row is None:
            return time.time(), 0
        times = table.times(row)
        kept = range(max(0, row.hits - limit), row.hits)
        oldest = bisect_left(kept, now - expiry, key=lambda n: times[n % limit])
        if oldest == len(kept):
            return time.time(), 0
        return time.time() - (now - times[kept[oldest] % limit]), len(kept) - oldest

    # -- facts that expire, without a limit --------------------------------------------------------

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Remember a key for this long."""
        digest, table = self._digest(key), self._tables[1]
        with self._locked(table, digest):
            now = time.monotonic()
            row = table.find(digest, now) or table.claim(digest)
            table.write(_Row(row.place, now + expiry, row.hits + amount), digest)
        return row.hits + amount

    async def get(self, key: str) -> int:
        """How often a key was remembered; 0 once it has expired."""
        row = self._tables[1].find(self._digest(key), time.monotonic())
        return 0 if row is None else row.hits

    async def get_expiry(self, key: str) -> float:
        """When (by the clock) a key expires."""
        now = time.monotonic()
        row = self._tables[1].find(self._digest(key), now)
        return time.time() if row is None else time.time() + row.expires - now

    async def clear(self, key: str) -> None:
        digest = self._digest(key)
        for table in self._tables.values():
            with self._locked(table, digest):
                if row := table.find(digest, time.monotonic()):
                    table.write(_Row(row.place, 0.0, 0), digest)

    # -- what the library asks for besides ---------------------------------------------------------

    @property
    def base_exceptions(self) -> type[Exception]:
        """Memory raises none."""
        return OSError

    async def check(self) -> bool:
        """Always True."""
        return True

    async def reset(self) -> int | None:
        """Not needed: the clock of these times never goes back."""
        return None

    def _digest(self, key: str) -> bytes:
        text = key.encode(errors="surrogatepass")
        return hashlib.blake2b(text, digest_size=16, key=self._secret).digest()

    @contextmanager
    def _locked(self, table: _Table, digest: bytes) -> Iterator[None]:
        bucket, length = table.bucket(digest), WAYS * table.row_bytes
        locked = self._lock(bucket, length)
        try:
            yield
        finally:
            if locked:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, length, bucket)

    def _lock(self, start: int, length: int) -> bool:
        """Whether the lock was got in time."""
        began = time.monotonic()
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
            except BlockingIOError:
                if time.monotonic() - began > LOCK_SECONDS:
                    return False
                os.sched_yield()
            else:
                return True
