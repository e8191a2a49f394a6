"""Writes archives."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import BinaryIO

import msgspec
import psycopg

from eventstore.chain import GENESIS, ChainVerifier, Fault, StoredRow, content, place
from eventstore.database.release import RELEASE
from eventstore.log import Envelope
from eventstore.pages import PAYLOAD, bounded, fitting
from runtime.archive.lines import (
    FORMAT,
    ArchivedKey,
    Consumer,
    End,
    EventLine,
    Header,
    OtherLine,
    stored,
)

PAGE = 5_000

_ANCHOR = "SELECT hash FROM log.events WHERE position = %s"
_END = "SELECT position FROM log.events ORDER BY position DESC LIMIT 1"
_KINDS = "SELECT name, kind FROM log.event_kinds"
_EVENTS = bounded("position > %s AND position <= %s", "hash", "occurred_at AS stored")
_ONCES = """
SELECT key, encode(fingerprint, 'hex'), refs, position, expires_at FROM log.once
WHERE position > %s AND position <= %s AND (expires_at IS NULL OR expires_at > clock_timestamp())
ORDER BY position
"""
_CONSUMERS = """
SELECT feed, projection, version, position
FROM consumers.feeds JOIN consumers.checkpoints USING (feed)
WHERE storage = '' ORDER BY feed
"""

_encode = msgspec.json.encode


class BrokenLog(Exception):
    """The log cannot be archived, as it is not what was appended: it does not fit its chain."""


def write(
    conn: psycopg.Connection,
    sink: BinaryIO,
    after: int,
    progress: Callable[[str, int, int], None],
) -> Header:
    """Write the log after a position, as a transaction that repeats its reads shows it.

    Raises BrokenLog, also when the log ends before that position; OSError, psycopg.Error.
    """
    header = _header(conn, after)
    sink.write(_encode(header) + b"\n")
    verifier = ChainVerifier(after, bytes.fromhex(header.after_hash))
    while verifier.position < header.position:
        with conn.cursor(binary=True) as cursor:
            values = (verifier.position, header.position, PAGE)
            rows = fitting(cursor.execute(_EVENTS.encode(), values).fetchall())
        events = [(Envelope(*row[:PAYLOAD]), *row[PAYLOAD:]) for row in rows]
        fault = verifier.check([_stored(*event) for event in events])
        if not rows:
            fault = Fault(verifier.position + 1, "removed")
        if fault:
            raise BrokenLog(f"the log is broken at position {fault.position}: {fault.reason}")
        sink.write(b"".join(_line(*event) for event in events))
        progress("events written", verifier.position - after, header.events)
    onces = _write_onces(conn, sink, header)
    consumers = [Consumer(*row) for row in conn.execute(_CONSUMERS)]
    end = End(header.events, onces, len(consumers))
    for line in (*(OtherLine(consumer=each) for each in consumers), OtherLine(end=end)):
        sink.write(_encode(line) + b"\n")
    return header


def _header(conn: psycopg.Connection, after: int) -> Header:
    end = conn.execute(_END).fetchone()
    position = end[0] if end else 0
    hashes = []
    for at in (after, position):
        row = conn.execute(_ANCHOR, (at,)).fetchone()
        if row is None and at > 0:
            raise BrokenLog(f"the log has no position {at}: it ends at {position}")
        hashes.append((row[0] if row else GENESIS).hex())
    kinds: dict[str, str] = dict(conn.execute(_KINDS).fetchall())
    return Header(FORMAT, RELEASE, after, hashes[0], position, hashes[1], datetime.now(UTC), kinds)


def _stored(
    env: Envelope, payload: bytes, row_hash: bytes, occurred_at: datetime | None
) -> StoredRow:
    """An event as the chain's verifier takes it."""
    cause = (env.actor, env.correlation_id, env.causation_id, env.traceparent)
    whole = content(
        env.event_id, env.stream_id, env.version, env.name, payload, *cause, occurred_at
    )
    return place(env.position, env.recorded_at), whole, row_hash


def _line(env: Envelope, payload: bytes, hash: bytes, occurred_at: datetime | None) -> bytes:
    raw, base64 = stored(payload)
    line = EventLine(
        env.position,
        env.event_id,
        env.stream_id,
        env.version,
        env.name,
        env.recorded_at,
        env.actor,
        hash.hex(),
        occurred_at,
        env.correlation_id,
        env.causation_id,
        env.traceparent,
        raw,
        base64,
    )
    return _encode(line) + b"\n"


def _write_onces(conn: psycopg.Connection, sink: BinaryIO, header: Header) -> int:
    """Write the idempotency keys of the events. Returns their number."""
    count = 0
    with conn.cursor("onces") as cursor:
        cursor.itersize = PAGE
        for row in cursor.execute(_ONCES, (header.after, header.position)):
            sink.write(_encode(OtherLine(once=ArchivedKey(*row))) + b"\n")
            count += 1
    return count
