"""Takes up amendments: streams whose events are to be read otherwise are applied again.

The rows of such a stream are put back to what they were before the event, and the stream into
quarantine from there on, with a retry asked for: `projections.engine.retrying` applies the rest, as
after any other cause was mended. Where several streams feed a row, the retry folds the read model
anew. What is behind a subscription's checkpoint is read as declared when it comes.
"""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg

from eventstore.amendments import Amendments
from eventstore.codec import Codec
from eventstore.consumers import checkpoints
from eventstore.consumers.reader import Page, Reader
from projections.engine.advancing import Subscriber
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
    try:
        with conn.transaction():
            checkpoints.move(conn, [(subscriber.name, subscriber.position, subscriber.position)])
            if not subscriber.projection.mixes_streams:
                for stream_id, at, _ in due:
                    _put_back(conn, codec, subscriber, amendments, stream_id, at)
            checkpoints.read_anew(conn, subscriber.name, due)
            checkpoints.amended(conn, subscriber.name, amendments.upto)
    except BaseException:
        subscriber.rows.discard()
        raise
    subscriber.rows.discard()
    subscriber.amended = amendments.upto
    if not subscriber.projection.mixes_streams:
        subscriber.quarantined |= {stream_id: at for stream_id, at, _ in due}


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


def _put_back(
    conn: psycopg.Connection,
    codec: Codec,
    subscriber: Subscriber,
    amendments: Amendments,
    stream_id: UUID,
    at: int,
) -> None:
    """Write the rows of a stream as they were before an event."""
    held_from = subscriber.quarantined.get(stream_id, subscriber.position + 1)
    before = amendments.as_of(subscriber.amended)
    now = _folded(conn, codec, subscriber, before, stream_id, held_from)
    then = _folded(conn, codec, subscriber, amendments, stream_id, at)
    gone = [key for key in now if key not in then or then[key] is None]
    puts = [row for row in then.values() if row is not None]
    subscriber.store.write(conn, subscriber.storage, puts, gone)


def _folded(
    conn: psycopg.Connection,
    codec: Codec,
    subscriber: Subscriber,
    amendments: Amendments,
    stream_id: UUID,
    before: int,
) -> dict[Key, Any]:
    """The rows that the events of a stream before a position touch, None for those removed. No
    other stream feeds them."""
    reader = Reader(codec, list(subscriber.names), amendments=amendments)
    rows: Rows[Any] = Rows(subscriber.projection.row)
    for page in _pages(conn, reader, stream_id, before - 1):
        fold_page(subscriber.projection, subscriber.names, rows, {}, page, prefetch=False)
    return rows.touched()


def _pages(conn: psycopg.Connection, reader: Reader, stream_id: UUID, upto: int) -> Iterator[Page]:
    after = 0
    while page := reader.stream(conn, stream_id, after, upto):
        yield page
        after = page[-1][0].position
