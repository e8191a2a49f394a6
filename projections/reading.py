"""Pages of the log for code that runs in threads: read, decode, and say which events cannot be read."""

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec
import psycopg

from eventstore.codec import Codec
from eventstore.keys import keys_now
from eventstore.log import Envelope

COLUMNS = (
    "position, event_id, stream_id, version, name, recorded_at, coalesce(occurred_at, recorded_at) AS occurred_at,"
    " actor, correlation_id, causation_id, traceparent, payload"
)


_pausing = threading.Lock()
_pauses = 0


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python's cycle collector away from a page: its many small objects all live until the page is written.

    Looking at them again and again cost as much as reading and folding them. It concerns the whole process, but only
    for a page; objects are freed as ever. Put it on a function, so that its page is gone when the collector is back.
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
    """Stands in for an event whose payload could not be decoded: whoever needs it parks its stream."""

    def __init__(self, error: Exception) -> None:
        self.error = error


Event = msgspec.Struct | Unreadable
Page = list[tuple[Envelope, Event]]


class Reader:
    """Reads events of certain names from the log, in order."""

    def __init__(self, codec: Codec, names: Sequence[str]) -> None:
        self._codec = codec
        self.names = sorted(names)
        self._readers: dict[str, Callable[[bytes], msgspec.Struct] | None] = {
            name: codec.reader_of(name) for name in names
        }

    def page(self, conn: psycopg.Connection, after: int, upto: int) -> Page:
        """Events of these names with after < position ≤ upto."""
        return self._read(
            conn,
            f"SELECT {COLUMNS} FROM log.events WHERE position > %s AND position <= %s AND name = ANY (%s)"
            " ORDER BY position",
            (after, upto, self.names),
        )

    def streams(self, conn: psycopg.Connection, stream_ids: Sequence[object], after: int, upto: int) -> Page:
        """As `page`, of certain streams only."""
        return self._read(
            conn,
            f"SELECT {COLUMNS} FROM log.events WHERE position > %s AND position <= %s AND name = ANY (%s)"
            " AND stream_id = ANY (%s) ORDER BY position",
            (after, upto, self.names, list(stream_ids)),
        )

    def _read(self, conn: psycopg.Connection, query: str, values: tuple[object, ...]) -> Page:
        rows = conn.cursor(binary=True).execute(query.encode(), values, prepare=True).fetchall()
        page: Page = []
        slow: list[int] = []
        readers = self._readers
        for row in rows:
            env = Envelope(*row[:11])
            read = readers[env.name]
            if read is None:
                slow.append(len(page))
                page.append((env, Unreadable(ValueError("not decoded yet"))))
                continue
            try:
                page.append((env, read(row[11])))
            except Exception as error:  # no JSON, no UTF-8, not this shape: whoever needs it parks its stream
                page.append((env, Unreadable(error)))
        if slow:
            self._read_slow(conn, page, [(i, rows[i][11]) for i in slow])
        return page

    def _read_slow(self, conn: psycopg.Connection, page: Page, payloads: list[tuple[int, bytes]]) -> None:
        """Those that need a person's key, or upcasting."""
        codec, persons = self._codec, set()
        for i, payload in payloads:
            env = page[i][0]
            try:
                person = codec.person_in(env.name, payload, env.stream_id)
            except Exception as error:  # whatever an upcaster or the decoder meets makes this event unreadable
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
