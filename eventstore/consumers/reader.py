"""Pages of the log for code in threads: read and decode events, and mark those that cannot be
decoded."""

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import chain
from uuid import UUID

import msgspec
import psycopg

from eventstore.amendments import NONE, Amendments
from eventstore.codec import Codec
from eventstore.decoding import SKIPPED, Unreadable
from eventstore.keys import keys_now
from eventstore.pages import PAGE_BYTES

SMALL_PAGE_EVENTS = 8
"""A page of this many events never exceeds PAGE_BYTES, as an event has at most 1 MiB."""

PAGE_EVENTS = 50_000
"""The most events of a page, however small they are."""

STREAM_PAGE = 5_000
"""The most events of a page of one stream."""

ROWS_PER_FETCH = 1_000
"""Rows made into objects at a time, during which no other thread runs."""

NUL = b"\\u0000"
"""How JSON has NUL in a text."""

_RANGE = "position > %s AND position <= %s AND name = ANY (%s)"


def _query(where: str) -> str:
    """A query whose parameters are the size above which a payload comes as NULL, those of `where`,
    and the maximal number of events."""
    return f"""
SELECT position, stream_id, version, name, recorded_at, coalesce(occurred_at, recorded_at),
    CASE WHEN octet_length(payload) <= %s THEN payload END
FROM log.events WHERE {where}
ORDER BY position LIMIT %s"""


def _events_of(number: int, parts: int) -> str:
    return _query(f"{_RANGE} AND mod(uuid_hash(stream_id) & 2147483647, {parts}) = {number}")


_EVENTS = _query(_RANGE)
_EVENTS_OF_STREAM = _query(f"{_RANGE} AND stream_id = %s")
_EVENTS_OF_STREAMS = _query(f"{_RANGE} AND stream_id = ANY (%s)")
_ANY_SIZE, _ALL = 2**30, 2**62

_pausing = threading.Lock()
_pauses = 0
_was_enabled = False


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause Python's cycle collector for a page, whose many small objects all live until the page
    is written.

    Scanning them repeatedly cost as much as reading and folding them. It concerns the whole
    process, but only for a page; reference counting goes on. Use it as a decorator, so that the
    page is freed before the collector resumes.
    """
    global _pauses, _was_enabled
    with _pausing:
        if _pauses == 0:
            _was_enabled = gc.isenabled()
        _pauses += 1
        gc.disable()
    try:
        yield
    finally:
        with _pausing:
            _pauses -= 1
            if _pauses == 0 and _was_enabled:
                gc.enable()


class Place(msgspec.Struct, frozen=True):
    """What is read of an event's envelope: see `Placed`."""

    position: int
    stream_id: UUID
    version: int
    name: str
    recorded_at: datetime
    occurred_at: datetime
    may_hold_nul: bool = True
    """Whether a text of the event may contain NUL."""


Event = msgspec.Struct | Unreadable
Page = list[tuple[Place, Event]]


class Reader:
    """Reads events with certain names from the log, in order."""

    def __init__(
        self,
        codec: Codec,
        names: Sequence[str],
        part: tuple[int, int] | None = None,
        amendments: Amendments = NONE,
    ) -> None:
        """With `part`, its number counted from 0 and the number of parts, `next_page` reads only
        the streams of that part. Events are read by these `amendments`."""
        self.amendments = amendments
        self._codec = codec
        self._events = _EVENTS if part is None else _events_of(*part)
        self.names = sorted(names)
        # how many events a page has, of at most their share of PAGE_BYTES each
        self._count = PAGE_EVENTS
        self._readers: dict[str, Callable[[bytes], msgspec.Struct] | None] = {
            name: codec.reader_of(name) for name in names
        }

    def next_page(self, conn: psycopg.Connection, after: int, upto: int) -> tuple[Page, int]:
        """The next events with these names after `after`, and the position up to which they are
        complete: at most `upto`, and as far as PAGE_EVENTS, PAGE_BYTES of payload, or one event
        reach."""
        page, is_last = self._bounded(conn, self._events, (after, upto, self.names), PAGE_EVENTS)
        return page, upto if is_last else page[-1][0].position

    def page(self, conn: psycopg.Connection, after: int, upto: int) -> Page:
        """Events with these names and after < position ≤ upto, however large."""
        return self._read(conn, _EVENTS, (_ANY_SIZE, after, upto, self.names, _ALL))[0]

    def stream(self, conn: psycopg.Connection, stream_id: UUID, after: int, upto: int) -> Page:
        """As `next_page`, for one stream: its next events, at most PAGE_BYTES of them, or one."""
        values = (after, upto, self.names, stream_id)
        return self._bounded(conn, _EVENTS_OF_STREAM, values, STREAM_PAGE)[0]

    def streams(self, conn: psycopg.Connection, stream_ids: Sequence[UUID], upto: int) -> Page:
        """All events of these streams with these names, up to a position, however many."""
        values = (_ANY_SIZE, 0, upto, self.names, list(stream_ids), _ALL)
        return self._read(conn, _EVENTS_OF_STREAMS, values)[0]

    def _bounded(
        self, conn: psycopg.Connection, query: str, values: tuple[object, ...], limit: int
    ) -> tuple[Page, bool]:
        """A page of bounded bytes, and whether there is nothing after it.

        A page ends where an event is larger than its share. When it would be less than half full,
        fewer events are read, with a larger share; then more again, once that many would fit.
        """
        while True:
            count = min(limit, self._count)
            share = PAGE_BYTES // count if count > SMALL_PAGE_EVENTS else _ANY_SIZE
            page, found, largest = self._read(conn, query, (share, *values, count))
            if len(page) < found and 2 * len(page) < count:
                self._count = max(SMALL_PAGE_EVENTS, count // 2)
                continue
            if len(page) == count and largest <= PAGE_BYTES // (2 * count):
                self._count = min(2 * count, PAGE_EVENTS)
            return page, len(page) == found < count

    def _read(
        self, conn: psycopg.Connection, query: str, values: tuple[object, ...]
    ) -> tuple[Page, int, int]:
        """Events up to the first whose payload was too large; how many were found, and the size of
        the largest payload read."""
        cursor = conn.cursor(binary=True).execute(query.encode(), values, prepare=True)
        page: Page = []
        slow: list[tuple[int, bytes]] = []
        readers, largest, amended = self._readers, 0, self.amendments.payloads
        fetched = iter(partial(cursor.fetchmany, ROWS_PER_FETCH), [])
        for position, stream, version, name, recorded, occurred, payload in chain.from_iterable(
            fetched
        ):
            if payload is None:
                break
            if (size := len(payload)) > largest:
                largest = size
            read, text = readers[name], payload
            if amended and (text := amended.get(position, payload)) is None:
                page.append((Place(position, stream, version, name, recorded, occurred), SKIPPED))
                continue
            may_hold_nul = read is None or NUL in text
            env = Place(position, stream, version, name, recorded, occurred, may_hold_nul)
            if read is None:
                slow.append((len(page), text))
                page.append((env, Unreadable(ValueError("not decoded yet"))))
                continue
            try:
                page.append((env, read(text)))
            except Exception as error:  # invalid JSON or UTF-8, or another shape
                page.append((env, Unreadable(error)))
        if slow:
            self._read_slow(conn, page, slow)
        return page, cursor.rowcount, largest

    def _read_slow(
        self, conn: psycopg.Connection, page: Page, payloads: list[tuple[int, bytes]]
    ) -> None:
        """Decode the events that may need a person's key, or upcasting."""
        codec, persons = self._codec, set()
        sealed: list[tuple[int, bytes]] = []
        for i, payload in payloads:
            env = page[i][0]
            try:
                event = codec.decode_plain(env.name, payload)
                if event is not None:
                    page[i] = (env, event)
                    continue
                person = codec.person_in(env.name, payload, env.stream_id)
            except Exception as error:
                # any failure of an upcaster or decoder makes this event unreadable
                page[i] = (env, Unreadable(error))
                continue
            sealed.append((i, payload))
            if person is not None:
                persons.add(person)
        keys = keys_now(conn, persons) if persons else {}
        for i, payload in sealed:
            env = page[i][0]
            try:
                page[i] = (env, codec.decode(env.name, payload, env.stream_id, keys.get))
            except Exception as error:
                page[i] = (env, Unreadable(error))
