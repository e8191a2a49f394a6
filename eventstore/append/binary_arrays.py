"""PostgreSQL arrays in binary wire format, built in one pass, as an append's arguments are its
hottest path.

psycopg dumps a list element by element and looks up how for each; here the types are known in
advance. See the PostgreSQL sources: `array_recv` (dimensions, null flag, element type, length,
lower bound; then length and bytes of each element) and `record_recv` (number of fields; then type,
length and bytes of each).
"""

from collections.abc import Sequence
from datetime import datetime
from struct import Struct
from uuid import UUID

from eventstore.chain import microseconds

_UUID, _BYTEA, _BIGINT, _TEXT, _TIMESTAMPTZ = 2950, 17, 20, 25, 1184
"""Object ids of built-in types, the same in every PostgreSQL."""

_DIGEST_BYTES = 32

_header = Struct(">iiIii").pack
_size = Struct(">I").pack
_typed_size = Struct(">II").pack
_typed_bigint = Struct(">IIq").pack
_new_event = Struct(">I I II16s II16s IIq II").pack
_NEW_EVENT_FIXED = Struct(">I II16s II16s IIq II II").size  # all but name, payload and cause
_UUID_NULL, _TEXT_NULL, TIME_NULL = (
    _size(oid) + b"\xff\xff\xff\xff" for oid in (_UUID, _TEXT, _TIMESTAMPTZ)
)
_UUID_SIZE = _typed_size(_UUID, 16)

TIME = _typed_size(_TIMESTAMPTZ, 8)
"""The prefix of a time (`chain.encoded_time`) as a record's field."""


def array(element_type: int, elements: Sequence[bytes]) -> bytes:
    """An array without nulls, from elements that each begin with their size; `element_type` is the
    type's object id."""
    if not elements:
        return _header(0, 0, element_type, 0, 0)[:12]
    return _header(1, 0, element_type, len(elements), 1) + b"".join(elements)


def digests(values: Sequence[bytes]) -> bytes:
    """bytea[] of SHA-256 digests."""
    return _of_size(_BYTEA, _DIGEST_BYTES, values)


def uuids(values: Sequence[UUID]) -> bytes:
    """uuid[]"""
    return _of_size(_UUID, 16, [value.bytes for value in values])


def bigints(values: Sequence[int]) -> bytes:
    """bigint[]"""
    return _of_size(_BIGINT, 8, [value.to_bytes(8, signed=True) for value in values])


def texts(values: Sequence[str]) -> bytes:
    """text[]"""
    return array(_TEXT, [_size(len(text)) + text for text in (value.encode() for value in values)])


def _of_size(element_type: int, size: int, values: Sequence[bytes]) -> bytes:
    """An array of equally large elements, each prefixed with its size."""
    if not values:
        return array(element_type, values)
    between = _size(size)
    return _header(1, 0, element_type, len(values), 1) + between + between.join(values)


def new_event(
    event_id: bytes, stream_id: bytes, version: int, name: bytes, payload: bytes, cause: bytes
) -> bytes:
    """A log.new_event_v4 as an element of an array; its last five fields are `cause`, then TIME and
    the time."""
    size = _NEW_EVENT_FIXED + len(name) + len(payload) + len(cause)
    return b"".join(
        (
            _new_event(
                size,
                10,
                _UUID,
                16,
                event_id,
                _UUID,
                16,
                stream_id,
                _BIGINT,
                8,
                version,
                _TEXT,
                len(name),
            ),
            name,
            _typed_size(_BYTEA, len(payload)),
            payload,
            cause,
        )
    )


def cause(
    actor: bytes,
    correlation_id: bytes | None,
    causation_id: bytes | None,
    traceparent: bytes | None,
) -> bytes:
    """The last fields of a log.new_event_v4 except the time."""
    return (
        _text(actor)
        + (_UUID_NULL if correlation_id is None else _UUID_SIZE + correlation_id)
        + (_UUID_NULL if causation_id is None else _UUID_SIZE + causation_id)
        + (_TEXT_NULL if traceparent is None else _text(traceparent))
    )


def new_once(
    key: UUID, fingerprint: bytes, result_ids: str, expires_at: datetime | None, last_event: int
) -> bytes:
    """A log.new_once as an element of an array."""
    value = b"".join(
        (
            _size(5),
            _UUID_SIZE + key.bytes,
            _typed_size(_BYTEA, len(fingerprint)) + fingerprint,
            _text(result_ids.encode()),
            TIME_NULL
            if expires_at is None
            else _typed_bigint(_TIMESTAMPTZ, 8, microseconds(expires_at)),
            _typed_bigint(_BIGINT, 8, last_event),
        )
    )
    return _size(len(value)) + value


def _text(text: bytes) -> bytes:
    return _typed_size(_TEXT, len(text)) + text
