"""A table's columns as arrays in PostgreSQL's binary format.

psycopg looks up for each element of a list how to send it, which took longer than folding. A
column's type is known. See the PostgreSQL sources, `array_recv`: an element is its size, -1 for
null, and its bytes.
"""

import datetime
import struct
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from eventstore.append.binary_arrays import array
from eventstore.chain import microseconds

_Element = Callable[[Any], bytes]

_NULL = b"\xff\xff\xff\xff"
_MISFITS = (TypeError, ValueError, AttributeError, OverflowError, struct.error)
_DAY_ZERO = datetime.date(2000, 1, 1).toordinal()

_size = Struct(">i").pack
_bigint = Struct(">iq").pack
_double = Struct(">id").pack
_bool = Struct(">i?").pack
_days = Struct(">ii").pack
_json = msgspec.json.Encoder().encode


def _text(value: str) -> bytes:
    text = value.encode()
    return _size(len(text)) + text


def _uuid(value: UUID) -> bytes:
    return b"\x00\x00\x00\x10" + value.bytes


def _bytea(value: bytes) -> bytes:
    return _size(len(value)) + value


def _jsonb(value: object) -> bytes:
    text = _json(value)
    return _size(len(text) + 1) + b"\x01" + text  # the format's version, then the text


_ELEMENTS: Mapping[str, tuple[int, _Element]] = {
    "text": (25, _text),
    "bigint": (20, lambda value: _bigint(8, value)),
    "double precision": (701, lambda value: _double(8, value)),
    "boolean": (16, lambda value: _bool(1, value)),
    "uuid": (2950, _uuid),
    "bytea": (17, _bytea),
    "timestamptz": (1184, lambda value: _bigint(8, microseconds(value))),
    "date": (1082, lambda value: _days(4, value.toordinal() - _DAY_ZERO)),
    "jsonb": (3802, _jsonb),
}
"""By the types of `tables.Column`: the object id, the same in every PostgreSQL, and what encodes an
element."""


class Array(msgspec.Struct, frozen=True):
    """An array, as a statement's parameter that is cast to its type."""

    data: bytes


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(Array, _ArrayDumper)


def column_array(column_type: str, values: Sequence[Any]) -> Array:
    """The values of a column. Raises psycopg.DataError when one is not of its type."""
    oid, element = _ELEMENTS[column_type]
    try:
        return Array(array(oid, [_NULL if value is None else element(value) for value in values]))
    except _MISFITS as error:
        raise psycopg.DataError(f"not a {column_type}: {error}") from error
