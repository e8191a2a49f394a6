"""Takes up amendments: streams whose events are to be read otherwise are applied again.

Where one stream feeds a row, the stream is folded as a whole, and its rows are replaced in one
step. If that fails, at this event or another one, its rows are put back to what they were before
the amended event, and the stream into quarantine from there on, with a retry asked for:
`projections.engine.retrying` applies the rest as far as it goes. Where several streams feed a row,
the retry folds the read model anew. What is behind a subscription's checkpoint is read as declared
when it comes.
"""

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import psycopg

from eventstore.amendments import Amendments
from eventstore.codec import Codec
from eventstore.consumers import amended, checkpoints
from eventstore.consumers.reader import Reader
from projections.engine.advancing import POISON, Subscriber
from projections.engine.folding import fold_page
from projections.projection import Key, Rows

Due = tuple[UUID, int, str]
"""A stream to be read anew, from the event at a position, of this wire name, on."""


def take_up(
    conn: psycopg.Connection, codec: Codec, subscriber: Subscriber, amendments: Amendments
) -> None:
    """Bring a subscription, which this connection leads, up to the latest amendments.

    Raises CheckpointMoved, psycopg.Error and what its store raises; nothing is changed then.
    """
    due = list(_due(subscriber, amendments))
    subscriber.rows.discard()
    subscriber.pieces.clear()  # decoded by earlier amendments
    is_whole = not subscriber.projection.mixes_streams
    try:
        with conn.transaction():
            checkpoints.move(conn, [(subscriber.name, subscriber.position, subscriber.position)])
            streams = _Streams(conn, codec, subscriber, amendments)
            left = [each for each in due if not (is_whole and streams.apply(each[0]))]
            if is_whole:
                for stream_id, at, _ in left:
                    streams.put_back(stream_id, at)
            mended = {each[0] for each in due} - {each[0] for each in left}
            amended.release_streams(conn, subscriber.name, mended)
            amended.read_anew(conn, subscriber.name, left)
            amended.taken_up(conn, subscriber.name, amendments.upto)
    finally:
        subscriber.rows.discard()
    subscriber.amended = amendments.upto
    for stream_id in mended:
        subscriber.quarantined.pop(stream_id, None)
    if is_whole:
        subscriber.quarantined |= {stream_id: at for stream_id, at, _ in left}


def _due(subscriber: Subscriber, amendments: Amendments) -> Iterator[Due]:
    """The streams that have to be read anew, each from its first event that was amended. One that
    is in quarantine since before that event waits there for its own cause."""
    first: dict[UUID, Due] = {}
    for each in amendments.since(subscriber.amended):
        folded = each.name in subscriber.names and each.position <= subscriber.position
        held_from = subscriber.quarantined.get(each.stream_id, each.position)
        known = first.get(each.stream_id)
        if folded and each.position <= held_from and (known is None or each.position < known[1]):
            first[each.stream_id] = each.stream_id, each.position, each.name
    yield from first.values()


class _Streams:
    """Streams, each of which alone feeds its rows."""

    def __init__(
        self,
        conn: psycopg.Connection,
        codec: Codec,
        subscriber: Subscriber,
        amendments: Amendments,
    ) -> None:
        self._conn = conn
        self._codec = codec
        self._subscriber = subscriber
        self._now = amendments
        self._before = amendments.as_of(subscriber.amended)

    def apply(self, stream_id: UUID) -> bool:
        """Write the rows of a stream as they are now. Returns False, and leaves them, when an event
        cannot be applied."""
        rows, poisoned = self._folded(self._now, stream_id, self._subscriber.position + 1)
        if poisoned:
            return False
        try:
            with self._conn.transaction():
                self._replace(stream_id, rows)
        except POISON:
            return False
        return True

    def put_back(self, stream_id: UUID, at: int) -> None:
        """Write the rows of a stream as they were before an event."""
        self._replace(stream_id, self._folded(self._now, stream_id, at)[0])

    def _replace(self, stream_id: UUID, rows: Mapping[Key, Any]) -> None:
        held_from = self._subscriber.quarantined.get(stream_id, self._subscriber.position + 1)
        written, _ = self._folded(self._before, stream_id, held_from)
        puts = [row for row in rows.values() if row is not None]
        gone = [key for key in written if rows.get(key) is None]
        self._subscriber.store.write(self._conn, self._subscriber.storage, puts, gone)

    def _folded(
        self, amendments: Amendments, stream_id: UUID, before: int
    ) -> tuple[Mapping[Key, Any], bool]:
        """The rows that the events of a stream before a position touch, None for those removed; and
        whether an event could not be applied."""
        projection, names = self._subscriber.projection, self._subscriber.names
        reader = Reader(self._codec, list(names), amendments=amendments)
        rows: Rows[Any] = Rows(projection.row)
        after = 0
        while page := reader.stream(self._conn, stream_id, after, before - 1):
            if fold_page(projection, names, rows, {}, page, prefetch=False):
                return rows.touched(), True
            after = page[-1][0].position
        return rows.touched(), False
