"""Rows of the log as envelopes and payloads, and as events."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec
from psycopg.rows import TupleRow

from eventstore.amendments import NONE, Amendments
from eventstore.codec import Codec
from eventstore.log import Envelope, Recorded
from eventstore.pages import PAYLOAD

Raw = tuple[Envelope, bytes]
"""An event as stored: its envelope and its payload, in JSON."""


class Skipped(msgspec.Struct, frozen=True):
    """Stands in for an event that is to be skipped (`eventstore.amendments`): it counts as a
    version of its stream, and says nothing."""


SKIPPED = Skipped()


class Unreadable:
    """Stands in for an event that could not be decoded: a consumer that needs it quarantines its
    stream."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def raw_rows(rows: Sequence[TupleRow]) -> list[Raw]:
    """Rows of COLUMNS as envelopes and payloads."""
    return [(Envelope(*row[:PAYLOAD]), row[PAYLOAD]) for row in rows]


def amended(rows: Sequence[Raw], amendments: Amendments) -> Sequence[Raw]:
    """The rows with the payloads by which they are to be read, without those to be skipped."""
    payloads = amendments.payloads
    return [
        (env, read)
        for env, payload in rows
        if (read := payloads.get(env.position, payload)) is not None
    ]


def persons_in(codec: Codec, rows: Sequence[Raw]) -> set[UUID]:
    """The persons whose keys these rows need."""
    return {
        person
        for env, payload in rows
        if codec.reader_of(env.name) is None and codec.knows(env.name)
        if (person := codec.person_in(env.name, payload, env.stream_id)) is not None
    }


def decode(
    codec: Codec,
    rows: Sequence[Raw],
    keys: Mapping[UUID, bytes],
    amendments: Amendments = NONE,
) -> list[Recorded]:
    """Decode rows to events, given the keys of their persons."""
    payloads = amendments.payloads
    return [
        Recorded(env, SKIPPED)
        if (read := payloads.get(env.position, payload) if payloads else payload) is None
        else Recorded(env, codec.decode(env.name, read, env.stream_id, keys.get))
        for env, payload in rows
    ]
