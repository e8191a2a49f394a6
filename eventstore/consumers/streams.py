"""Streams read for code in threads, many at a time, and folded."""

from collections.abc import Iterable
from typing import Any, TypeVar
from uuid import UUID

import psycopg

from eventstore.aggregate import Aggregate
from eventstore.amendments import load
from eventstore.codec import Codec
from eventstore.consumers.reader import Page, Reader
from eventstore.decoding import SKIPPED, Unreadable

S = TypeVar("S")


def read_streams(
    conn: psycopg.Connection, codec: Codec, stream_ids: Iterable[UUID], upto: int
) -> dict[UUID, Page]:
    """The events of each of these streams, in order, up to a position: those that this program
    knows."""
    found: dict[UUID, Page] = {stream_id: [] for stream_id in stream_ids}
    if found:
        reader = Reader(codec, list(codec.kinds), amendments=load(conn).as_of(upto))
        for env, event in reader.streams(conn, list(found), upto):
            found[env.stream_id].append((env, event))
    return found


def folded(aggregate: Aggregate[S], page: Page) -> S | None:
    """The state after a stream's events; None if it has none, is of another kind, or has an event
    that cannot be read."""
    events: list[Any] = [event for _, event in page if event is not SKIPPED]
    if not events or any(isinstance(event, Unreadable) for event in events):
        return None
    return aggregate.fold(None, events) if aggregate.kind == events[0].KIND else None
