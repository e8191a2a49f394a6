"""Reads the log in the form in which it is hashed (docs/log.md, "The chain, byte by byte").

PostgreSQL puts the bytes together, and this process hashes them: that takes a third of the time of
making Python's ids and times of them. What is hashed are the stored bytes of every column.
"""

from collections.abc import Sequence

import psycopg

from eventstore import pages
from eventstore.chain import ChainVerifier, Fault, StoredRow

PAGE = 5_000
"""How many events are read at once."""


def _text(column: str) -> str:
    return rf"int4send(octet_length({column})) || textsend({column})"


def _optional(column: str, value: str) -> str:
    return rf"CASE WHEN {column} IS NULL THEN '\x00'::bytea ELSE '\x01'::bytea || {value} END"


CONTENT = rf"""
CASE WHEN occurred_at IS NULL THEN convert_to('ludoteca.event.1', 'UTF8')
    ELSE convert_to('ludoteca.event.2', 'UTF8') END
|| uuid_send(event_id) || uuid_send(stream_id) || int8send(version) || {_text("name")}
|| int4send(octet_length(payload)) || payload || {_text("actor")}
|| {_optional("correlation_id", "uuid_send(correlation_id)")}
|| {_optional("causation_id", "uuid_send(causation_id)")}
|| {_optional("traceparent", _text("traceparent"))}
|| CASE WHEN occurred_at IS NULL THEN ''::bytea ELSE timestamptz_send(occurred_at) END
"""
"""What is hashed to an event's digest."""

_PLACE = "int8send(position) || timestamptz_send(recorded_at)"
_ROWS = "FROM log.events WHERE position > %s AND position <= %s ORDER BY position LIMIT %s"
_SMALL = f"""
SELECT {_PLACE}, CASE WHEN octet_length(payload) <= %s THEN {CONTENT} END, hash {_ROWS}
"""
_ANY = f"SELECT {_PLACE}, {CONTENT}, hash {_ROWS}"

_STRAY = b"SELECT position FROM log.events WHERE position < 1 ORDER BY position LIMIT 1"
"""No reader of the log by position meets such a row, but one by stream would."""


def stray_now(conn: psycopg.Connection) -> Fault | None:
    """The row before the first position, which only a forger puts there."""
    return _stray(conn.execute(_STRAY).fetchone())


async def stray(conn: psycopg.AsyncConnection) -> Fault | None:
    """As `stray_now`."""
    return _stray(await (await conn.execute(_STRAY)).fetchone())


def _stray(row: tuple[int] | None) -> Fault | None:
    return None if row is None else Fault(row[0], "inserted: positions begin at 1")


Query = tuple[bytes, tuple[int, ...]]


class Walk:
    """Walks a verifier up to a position, over any connection: execute `query`, in binary form, pass
    all rows of the answer to `take`, until it is `done`."""

    def __init__(self, verifier: ChainVerifier, upto: int, page: int = PAGE) -> None:
        self.verifier = verifier
        self.hashes: list[bytes] = []
        """The hashes of the rows that the last call of `take` checked."""
        self._upto = upto
        self._page = self._most = page

    @property
    def done(self) -> bool:
        return self.verifier.position >= self._upto

    @property
    def query(self) -> Query:
        """The query for the next page. Payloads that are too large for it come as NULL."""
        bounds = (self.verifier.position, self._upto, self._page)
        if self._page == 1:
            return _ANY.encode(), bounds
        return _SMALL.encode(), (pages.PAGE_BYTES // self._page, *bounds)

    def take(self, rows: Sequence[StoredRow]) -> Fault | None:
        """Check a page. Returns the first fault; None when there is none, or another page is to be
        asked for."""
        if not rows:
            return Fault(self.verifier.position + 1, "removed: the log ends before this position")
        whole = rows
        if self._page > 1 and any(content is None for _, content, _ in rows):
            whole = rows[: next(n for n, (_, content, _) in enumerate(rows) if content is None)]
            self._page = max(1, self._page // 8)
        else:
            self._page = min(self._most, self._page * 2)
        fault = self.verifier.check(whole)
        self.hashes = [] if fault else [row_hash for _, _, row_hash in whole if row_hash]
        return fault
