"""A table's columns in PostgreSQL's binary formats: as arrays, and as the rows of a COPY.

psycopg looks up for each value how to send it, or calls a function in Python, which took longer
than folding. A column's type is known. In both formats an element is its size, -1 for null, and its
bytes: see the PostgreSQL sources, `array_recv`, and the documentation of COPY.
"""

import datetime
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, repeat
from struct import Struct
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from eventstore.append.binary_arrays import array
from eventstore.chain import microseconds

_Elements = Callable[[Iterable[Any]], list[bytes]]

_NULL = b"\xff\xff\xff\xff"
_MISFITS = (TypeError, ValueError, AttributeError, OverflowError, KeyError, struct.error)
_DAY_ZERO = datetime.date(2000, 1, 1).toordinal()

COPY_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_END = b"\xff\xff"

_size = Struct(">i").pack
_count = Struct(">h").pack
_bigint = Struct(">iq").pack
_double = Struct(">id").pack
_bool = {False: b"\x00\x00\x00\x01\x00", True: b"\x00\x00\x00\x01\x01"}
_days = Struct(">ii").pack
_json = msgspec.json.Encoder().encode


def _texts(values: Iterable[str | None]) -> list[bytes]:
    known: dict[str | None, bytes] = {None: _NULL}  # most columns have few texts, or each once
    found = []
    for value in values:
        element = known.get(value)
        if element is None:
            assert value is not None
            text = value.encode()
            element = known[value] = _size(len(text)) + text
        found.append(element)
    return found


def _bigints(values: Iterable[int | None]) -> list[bytes]:
    return [_NULL if value is None else _bigint(8, value) for value in values]


def _doubles(values: Iterable[float | None]) -> list[bytes]:
    return [_NULL if value is None else _double(8, value) for value in values]


def _booleans(values: Iterable[bool | None]) -> list[bytes]:
    return [_NULL if value is None else _bool[value] for value in values]


def _uuids(values: Iterable[UUID | None]) -> list[bytes]:
    return [
        _NULL if value is None else b"\x00\x00\x00\x10" + value.int.to_bytes(16) for value in values
    ]


def _byteas(values: Iterable[bytes | None]) -> list[bytes]:
    return [_NULL if value is None else _size(len(value)) + value for value in values]


def _times(values: Iterable[datetime.datetime | None]) -> list[bytes]:
    return [_NULL if value is None else _bigint(8, microseconds(value)) for value in values]


def _dates(values: Iterable[datetime.date | None]) -> list[bytes]:
    return [_NULL if value is None else _days(4, value.toordinal() - _DAY_ZERO) for value in values]


def _jsonbs(values: Iterable[object]) -> list[bytes]:
    """The format's version, then the text."""
    found = []
    for value in values:
        if value is None:
            found.append(_NULL)
        else:
            text = _json(value)
            found.append(_size(len(text) + 1) + b"\x01" + text)
    return found


_ELEMENTS: Mapping[str, tuple[int, _Elements]] = {
    "text": (25, _texts),
    "bigint": (20, _bigints),
    "double precision": (701, _doubles),
    "boolean": (16, _booleans),
    "uuid": (2950, _uuids),
    "bytea": (17, _byteas),
    "timestamptz": (1184, _times),
    "date": (1082, _dates),
    "jsonb": (3802, _jsonbs),
}
"""By the types of `tables.Column`: the object id, the same in every PostgreSQL, and what encodes
elements."""


class Array(msgspec.Struct, frozen=True):
    """An array, as a statement's parameter that is cast to its type."""

    data: bytes


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(Array, _ArrayDumper)


def column_array(column_type: str, values: Iterable[Any]) -> Array:
    """The values of a column. Raises psycopg.DataError when one is not of its type."""
    return Array(array(_ELEMENTS[column_type][0], _elements(column_type, values)))


def copy_rows(column_types: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows for `COPY … (FORMAT BINARY)`, between COPY_BEGIN and COPY_END. Raises psycopg.DataError
    when a value is not of its column's type."""
    columns = map(_elements, column_types, zip(*rows, strict=True))
    return b"".join(chain.from_iterable(zip(repeat(_count(len(column_types))), *columns)))


def _elements(column_type: str, values: Iterable[Any]) -> list[bytes]:
    try:
        return _ELEMENTS[column_type][1](values)
    except _MISFITS as error:
        raise psycopg.DataError(f"not a {column_type}: {error}") from error
