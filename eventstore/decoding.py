"""Rows of the log as envelopes and payloads, and as events."""

from collections.abc import Sequence
from uuid import UUID

from psycopg.rows import TupleRow

from eventstore.codec import Codec
from eventstore.log import Envelope, Recorded
from eventstore.pages import PAYLOAD

Raw = tuple[Envelope, bytes]
"""An event as stored: its envelope and its payload, in JSON."""


class Unreadable:
    """Stands in for an event that could not be decoded: a consumer that needs it quarantines its
    stream."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def raw_rows(rows: Sequence[TupleRow]) -> list[Raw]:
    """Rows of COLUMNS as envelopes and payloads."""
    return [(Envelope(*row[:PAYLOAD]), row[PAYLOAD]) for row in rows]


def persons_in(codec: Codec, rows: Sequence[Raw]) -> set[UUID]:
    """The persons whose keys these rows need."""
    return {
        person
        for env, payload in rows
        if codec.reader_of(env.name) is None and codec.knows(env.name)
        if (person := codec.person_in(env.name, payload, env.stream_id)) is not None
    }


def decode(codec: Codec, rows: Sequence[Raw], keys: dict[UUID, bytes]) -> list[Recorded]:
    """Decode rows to events, given the keys of their persons."""
    return [
        Recorded(env, codec.decode(env.name, payload, env.stream_id, keys.get))
        for env, payload in rows
    ]
