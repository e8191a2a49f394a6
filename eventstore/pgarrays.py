"""PostgreSQL arrays in binary wire format, built in one go: the append's nineteen arrays are its hottest path.

psycopg dumps a list element by element, looking up how for each; here the type is known beforehand. See the
PostgreSQL sources (`array_send`): dimensions, null flag, element type, length, lower bound, then length and bytes each.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from struct import Struct
from uuid import UUID

from psycopg import AsyncConnection, Connection
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

from eventstore.chain import microseconds

_header = Struct(">iiIii").pack
_u32 = Struct(">I").pack
_i64 = Struct(">q").pack
_NULL = b"\xff\xff\xff\xff"
_SIXTEEN, _EIGHT, _FOUR = _u32(16), _u32(8), _u32(4)


class _Array(bytes):
    """An array as it goes over the wire."""


class Uuids(_Array):
    """uuid[]"""


class Bigints(_Array):
    """bigint[]"""


class Ints(_Array):
    """int[]"""


class Texts(_Array):
    """text[]"""


class Byteas(_Array):
    """bytea[]"""


class Times(_Array):
    """timestamptz[]"""


_OIDS = {
    Uuids: (2951, 2950),
    Bigints: (1016, 20),
    Ints: (1007, 23),
    Texts: (1009, 25),
    Byteas: (1001, 17),
    Times: (1185, 1184),
}


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> Buffer:
        return obj


def register(conn: Connection | AsyncConnection) -> None:
    """Teach a connection these types."""
    for cls, (oid, _) in _OIDS.items():
        conn.adapters.register_dumper(cls, type(f"{cls.__name__}Dumper", (_ArrayDumper,), {"oid": oid}))


def _array(cls: type[_Array], n: int, parts: Iterable[bytes], nulls: bool) -> bytes:
    if n == 0:
        return _header(0, 0, _OIDS[cls][1], 0, 0)[:12]
    return _header(1, int(nulls), _OIDS[cls][1], n, 1) + b"".join(parts)


def uuids(values: Sequence[UUID | None]) -> Uuids:
    parts = [_NULL if v is None else _SIXTEEN + v.bytes for v in values]
    return Uuids(_array(Uuids, len(values), parts, None in values))


def bigints(values: Sequence[int]) -> Bigints:
    return Bigints(_array(Bigints, len(values), [_EIGHT + _i64(v) for v in values], False))


def ints(values: Sequence[int]) -> Ints:
    return Ints(_array(Ints, len(values), [_FOUR + _u32(v) for v in values], False))


def texts(values: Sequence[str | None]) -> Texts:
    parts = [_NULL if v is None else _sized(v.encode()) for v in values]
    return Texts(_array(Texts, len(values), parts, None in values))


def byteas(values: Sequence[bytes]) -> Byteas:
    return Byteas(_array(Byteas, len(values), map(_sized, values), False))


def times(values: Sequence[datetime | None]) -> Times:
    parts = [_NULL if v is None else _EIGHT + _i64(microseconds(v)) for v in values]
    return Times(_array(Times, len(values), parts, None in values))


def _sized(value: bytes) -> bytes:
    return _u32(len(value)) + value
