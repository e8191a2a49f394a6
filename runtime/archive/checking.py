"""Checks blocks of an archive's event lines against the hash chain, and makes the rows that COPY
takes.

A block can be checked without those before it, as each line has its hash: so several processes
check, while one passes on what they made.
"""

from datetime import datetime
from struct import Struct
from typing import NamedTuple

import msgspec

from eventstore.chain import (
    WITH_TIME,
    WITHOUT_TIME,
    cause_in_bytes,
    digest_of,
    encoded_cause,
    encoded_time,
    link_of,
)
from eventstore.log import MAX_APPEND_BYTES
from kit.json_errors import JSON_ERRORS
from runtime.archive.lines import EventLine, payload_of

COLUMNS = (
    "position, event_id, stream_id, version, name, payload, actor, correlation_id, causation_id,"
    " traceparent, recorded_at, hash, occurred_at"
)
"""The columns of a row, in order."""

BINARY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""Before the rows: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"."""

BINARY_END = b"\xff\xff"
"""After the rows."""

_decoder = msgspec.json.Decoder(EventLine)
_u32 = Struct(">I").pack
_ids = Struct(">h i q i 16s i 16s i q i").pack
"""The number of columns; position, event_id, stream_id, version; and the length of the name."""
_NULL = b"\xff\xff\xff\xff"
_EIGHT, _SIXTEEN, _THIRTY_TWO = _u32(8), _u32(16), _u32(32)


class Block(NamedTuple):
    """Whole lines of events, from the line numbered `line` of the file; and what the event before
    the first has: its position, its hash, and its time (None: there is none)."""

    data: bytes
    line: int
    position: int
    hash: bytes
    recorded_at: datetime | None


class Checked(NamedTuple):
    """The rows of a block's events, in the binary form of COPY, and what the last event has."""

    rows: bytes
    events: int
    position: int
    hash: bytes
    recorded_at: datetime | None


class Flaw(NamedTuple):
    """What is wrong with a line."""

    line: int
    position: int | None
    reason: str


def check(block: Block, upto: int) -> Checked | Flaw:
    """Check each event of a block, and make the rows of those up to a position."""
    try:
        lines = _decoder.decode_lines(block.data)
    except JSON_ERRORS:
        lines = []
    if len(lines) != block.data.count(b"\n"):
        return _unreadable(block)
    rows: list[bytes] = []
    position, previous, recorded_at = block.position, block.hash, block.recorded_at
    for number, line in enumerate(lines, block.line):
        if line.position != position + 1:
            return Flaw(number, line.position, f"position {position + 1} has to be here")
        if line.position > upto:
            break
        if recorded_at is not None and line.recorded_at < recorded_at:
            return Flaw(number, line.position, "its time is before that of the event before it")
        at = encoded_time(line.recorded_at)
        try:
            payload = _payload(line)
        except ValueError as error:
            return Flaw(number, line.position, str(error))
        row, digest, occurred_at = _row(line, payload)
        expected = link_of(previous, line.position, at, digest)
        if expected.hex() != line.hash:
            return Flaw(
                number,
                line.position,
                "changed, inserted or moved: its hash does not follow from the event before it",
            )
        rows += (row, _EIGHT, at, _THIRTY_TWO, expected, occurred_at)
        position, previous, recorded_at = line.position, expected, line.recorded_at
    return Checked(b"".join(rows), position - block.position, position, previous, recorded_at)


def end_of(block: Block) -> tuple[int, bytes, datetime]:
    """Position, hash and time of a block's last event, as its line has them. Raises ValueError when
    it is not readable."""
    start = block.data.rfind(b"\n", 0, -1) + 1
    try:
        line = _decoder.decode(block.data[start:])
        return line.position, bytes.fromhex(line.hash), line.recorded_at
    except JSON_ERRORS as error:
        raise ValueError(str(error)) from error


def _payload(line: EventLine) -> bytes:
    """The payload's bytes. Raises ValueError, which says what is wrong with it."""
    try:
        payload = payload_of(line)
    except ValueError:
        raise ValueError("its payload is not in base64") from None
    if len(payload) > MAX_APPEND_BYTES:
        raise ValueError(f"its payload has {len(payload):,} bytes: too many")
    return payload


def _row(line: EventLine, payload: bytes) -> tuple[bytes, bytes, bytes]:
    """The first ten columns of an event's row, its digest, and its last column."""
    name = line.name.encode()
    event_id, stream_id = line.event_id.bytes, line.stream_id.bytes
    cause = cause_in_bytes(line.actor, line.correlation_id, line.causation_id, line.traceparent)
    kind, end, last = WITHOUT_TIME, encoded_cause(*cause), _NULL
    if line.occurred_at is not None:
        occurred_at = encoded_time(line.occurred_at)
        kind, end, last = WITH_TIME, end + occurred_at, _EIGHT + occurred_at
    digest = digest_of(event_id, stream_id, line.version, name, payload, end, kind)
    actor, correlation_id, causation_id, traceparent = cause
    ids = _ids(13, 8, line.position, 16, event_id, 16, stream_id, 8, line.version, len(name))
    row = b"".join(
        (
            ids,
            name,
            _u32(len(payload)),
            payload,
            _u32(len(actor)),
            actor,
            _NULL if correlation_id is None else _SIXTEEN + correlation_id,
            _NULL if causation_id is None else _SIXTEEN + causation_id,
            _NULL if traceparent is None else _u32(len(traceparent)) + traceparent,
        )
    )
    return row, digest, last


def _unreadable(block: Block) -> Flaw:
    """The first line that is no event, unless one before it is wrong."""
    start = 0
    for number, line in enumerate(block.data.split(b"\n")[:-1]):
        try:
            _decoder.decode(line)
        except JSON_ERRORS as error:
            before = check(block._replace(data=block.data[:start]), block.position + number)
            if isinstance(before, Flaw):
                return before
            return Flaw(block.line + number, block.position + number + 1, f"no event: {error}")
        start += len(line) + 1
    raise AssertionError("all lines of the block are events")
