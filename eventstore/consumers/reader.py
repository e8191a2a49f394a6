"""Pages of the log for code in threads: read and decode events, and mark those that cannot be
decoded."""

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import msgspec
import psycopg

from eventstore.codec import Codec
from eventstore.keys import keys_now
from eventstore.log import Envelope
from eventstore.pages import COLUMNS, PAGE_BYTES, PAYLOAD, bounded, fitting

SMALL_PAGE_EVENTS = 8
"""A page of this many positions never exceeds PAGE_BYTES, as an event has at most 1 MiB: no size
query is needed."""

MAX_POSITIONS = 2**20
"""The most positions of a page, however small its events."""

STREAM_PAGE = 5_000
"""The most events of a page of one stream."""

ROWS_PER_FETCH = 1_000
"""Rows made into objects at a time, during which no other thread runs."""

_RANGE = "position > %s AND position <= %s AND name = ANY (%s)"
_SIZE = f"SELECT coalesce(sum(octet_length(payload)), 0) FROM log.events WHERE {_RANGE}"
_END = f"""
SELECT max(position) FROM (
    SELECT position, octet_length(payload)
        AS size, sum(octet_length(payload)) OVER (ORDER BY position) AS total
    FROM log.events WHERE {_RANGE}
) e WHERE total - size = 0 OR total <= %s"""

_pausing = threading.Lock()
_pauses = 0


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's cycle collector for a page, whose many small objects all live until the page
    is written.

    Scanning them repeatedly cost as much as reading and folding them. It concerns the whole
    process, but only for a page; reference counting goes on. Use it as a decorator, so that the
    page is freed before the collector resumes.
    """
    global _pauses
    with _pausing:
        _pauses += 1
        gc.disable()
    try:
        yield
    finally:
        with _pausing:
            _pauses -= 1
            if _pauses == 0:
                gc.enable()


class Unreadable:
    """Stands in for an event that could not be decoded: a consumer that needs it quarantines its
    stream."""

    def __init__(self, error: Exception) -> None:
        self.error = error


Event = msgspec.Struct | Unreadable
Page = list[tuple[Envelope, Event]]


class Reader:
    """Reads events with certain names from the log, in order."""

    def __init__(self, codec: Codec, names: Sequence[str]) -> None:
        self._codec = codec
        self.names = sorted(names)
        self._span = MAX_POSITIONS  # reduced for a while after a page exceeded PAGE_BYTES
        self._readers: dict[str, Callable[[bytes], msgspec.Struct] | None] = {
            name: codec.reader_of(name) for name in names
        }

    def next_page(self, conn: psycopg.Connection, after: int, upto: int) -> tuple[Page, int]:
        """The next events with these names after `after`, and the position up to which they are
        complete: at most `upto`, and as far as PAGE_BYTES of payload, or one event, reach."""
        end = min(upto, after + self._span)
        if end - after > SMALL_PAGE_EVENTS:
            end = self._end_by_bytes(conn, after, end)
        return self.page(conn, after, end), end

    def _end_by_bytes(self, conn: psycopg.Connection, after: int, upto: int) -> int:
        """Where a page ends by size. Reads sizes only, of at most twice as many positions as the
        last oversized page had."""
        where = (after, upto, self.names)
        row = conn.execute(_SIZE.encode(), where, prepare=True).fetchone()
        if row is None or row[0] <= PAGE_BYTES:
            self._span = min(2 * self._span, MAX_POSITIONS)
            return upto
        row = conn.execute(_END.encode(), (*where, PAGE_BYTES), prepare=True).fetchone()
        end: int = row[0] if row else upto
        self._span = max(SMALL_PAGE_EVENTS, 2 * (end - after))
        return end

    def page(self, conn: psycopg.Connection, after: int, upto: int) -> Page:
        """Events with these names and after < position ≤ upto, however large."""
        return self._read(
            conn, f"SELECT {COLUMNS} FROM log.events WHERE {_RANGE} ORDER BY position", after, upto
        )

    def stream(self, conn: psycopg.Connection, stream_id: UUID, after: int, upto: int) -> Page:
        """As `next_page`, for one stream: its next events, at most PAGE_BYTES of them, or one."""
        return self._read(
            conn, bounded(f"{_RANGE} AND stream_id = %s"), after, upto, stream_id, STREAM_PAGE
        )

    def _read(
        self, conn: psycopg.Connection, query: str, after: int, upto: int, *more: object
    ) -> Page:
        values = (after, upto, self.names, *more)
        cursor = conn.cursor(binary=True).execute(query.encode(), values, prepare=True)
        page: Page = []
        slow: list[tuple[int, bytes]] = []
        readers = self._readers
        while rows := cursor.fetchmany(ROWS_PER_FETCH):
            for row in fitting(rows):
                env = Envelope(*row[:PAYLOAD])
                read = readers[env.name]
                if read is None:
                    slow.append((len(page), row[PAYLOAD]))
                    page.append((env, Unreadable(ValueError("not decoded yet"))))
                    continue
                try:
                    page.append((env, read(row[PAYLOAD])))
                except Exception as error:  # invalid JSON or UTF-8, or another shape
                    page.append((env, Unreadable(error)))
        if slow:
            self._read_slow(conn, page, slow)
        return page

    def _read_slow(
        self, conn: psycopg.Connection, page: Page, payloads: list[tuple[int, bytes]]
    ) -> None:
        """Decode the events that need a person's key, or upcasting."""
        codec, persons = self._codec, set()
        for i, payload in payloads:
            env = page[i][0]
            try:
                person = codec.person_in(env.name, payload, env.stream_id)
            except Exception as error:
                # any failure of an upcaster or decoder makes this event unreadable
                page[i] = (env, Unreadable(error))
                continue
            if person is not None:
                persons.add(person)
        keys = keys_now(conn, persons) if persons else {}
        for i, payload in payloads:
            env = page[i][0]
            try:
                page[i] = (env, codec.decode(env.name, payload, env.stream_id, keys.get))
            except Exception as error:
                page[i] = (env, Unreadable(error))
