"""PostgreSQL arrays in binary wire format, built in one go: an append's arguments are its hottest path.

psycopg dumps a list element by element, looking up how for each; here the types are known beforehand. See the
PostgreSQL sources: `array_recv` (dimensions, null flag, element type, length, lower bound; then length and bytes of
each element) and `record_recv` (number of fields; then type, length and bytes of each).
"""

from collections.abc import Sequence
from datetime import datetime
from struct import Struct
from uuid import UUID

from eventstore.chain import microseconds

_UUID, _BYTEA, _BIGINT, _TEXT, _TIMESTAMPTZ = 2950, 17, 20, 25, 1184
"""Object ids of built-in types: the same in every PostgreSQL."""

_header = Struct(">iiIii").pack
_size = Struct(">I").pack
_typed_size = Struct(">II").pack
_typed_bigint = Struct(">IIq").pack
_new_event = Struct(">I II16s II16s IIq II").pack
_UUID_NULL, _TEXT_NULL, _TIME_NULL = (_size(oid) + b"\xff\xff\xff\xff" for oid in (_UUID, _TEXT, _TIMESTAMPTZ))
_UUID_SIZE, _SIXTEEN = _typed_size(_UUID, 16), _size(16)


def array(element_type: int, elements: Sequence[bytes]) -> bytes:
    """An array of elements in wire format, none of them null; `element_type` is the type's object id."""
    if not elements:
        return _header(0, 0, element_type, 0, 0)[:12]
    return _header(1, 0, element_type, len(elements), 1) + b"".join([_sized(e) for e in elements])


def byteas(values: Sequence[bytes]) -> bytes:
    """bytea[]"""
    return array(_BYTEA, values)


def uuids(values: Sequence[UUID]) -> bytes:
    """uuid[]"""
    return array(_UUID, [value.bytes for value in values])


def bigints(values: Sequence[int]) -> bytes:
    """bigint[]"""
    return array(_BIGINT, [value.to_bytes(8, signed=True) for value in values])


def new_event(
    event_id: UUID,
    stream_id: UUID,
    version: int,
    name: str,
    payload: bytes,
    actor: str,
    correlation_id: UUID | None,
    causation_id: UUID | None,
    traceparent: str | None,
) -> bytes:
    """A value of type log.new_event."""
    wire_name = name.encode()
    return b"".join(
        (
            _new_event(
                9, _UUID, 16, event_id.bytes, _UUID, 16, stream_id.bytes, _BIGINT, 8, version, _TEXT, len(wire_name)
            ),
            wire_name,
            _typed_size(_BYTEA, len(payload)),
            payload,
            _text(actor),
            _UUID_NULL if correlation_id is None else _UUID_SIZE + correlation_id.bytes,
            _UUID_NULL if causation_id is None else _UUID_SIZE + causation_id.bytes,
            _TEXT_NULL if traceparent is None else _text(traceparent),
        )
    )


def new_once(key: UUID, fingerprint: bytes, refs: str, expires_at: datetime | None, last_event: int) -> bytes:
    """A value of type log.new_once."""
    return b"".join(
        (
            _size(5),
            _UUID_SIZE + key.bytes,
            _typed_size(_BYTEA, len(fingerprint)) + fingerprint,
            _text(refs),
            _TIME_NULL if expires_at is None else _typed_bigint(_TIMESTAMPTZ, 8, microseconds(expires_at)),
            _typed_bigint(_BIGINT, 8, last_event),
        )
    )


def _sized(value: bytes) -> bytes:
    return _size(len(value)) + value


def _text(value: str) -> bytes:
    text = value.encode()
    return _typed_size(_TEXT, len(text)) + text
