"""Searching the log, newest first.

The log has no index by name, actor, request or text: each event would pay for what operators ask
now and then. So a search looks through a bounded range of positions, says which, and goes on from
there when it is asked to.
"""

from collections.abc import Mapping
from uuid import UUID

import msgspec

from eventstore.decoding import raw_rows
from eventstore.pages import COLUMNS
from eventstore.postgres_log import PostgresLog
from queries.audit.log import Audit, AuditEvent, like
from queries.engine.paging import MAX_LIMIT

MAX_POSITIONS = 1_000_000
"""The most positions that one search by names and ids looks through."""

MAX_TEXT_POSITIONS = 50_000
"""The most positions of which one search reads the payloads."""

_CONDITIONS: Mapping[str, str] = {
    "stream_id": "stream_id = %(stream_id)s",
    "name": "name LIKE %(name)s",
    "actor": "actor = %(actor)s",
    "correlation_id": "correlation_id = %(correlation_id)s",
    # Bytes are compared: a payload that is not valid UTF-8 ends no search.
    "text": "position(lower(encode(%(text)s, 'escape')) IN lower(encode(payload, 'escape'))) > 0",
}


class Wanted(msgspec.Struct, frozen=True):
    """What to search for; all that is given must match. `name` may be a pattern such as
    `payment.*`. `text` is a part of the payload as it is stored, in small or capital (ASCII)
    letters; personal fields are stored encrypted, so it does not find them."""

    stream_id: UUID | None = None
    name: str | None = None
    actor: str | None = None
    correlation_id: UUID | None = None
    text: str | None = None


class LogPage(msgspec.Struct, frozen=True):
    """Events, newest first. All positions after `searched_after`, up to `searched_upto`, were
    looked at. To go on, search up to `searched_after`, unless `is_last`."""

    items: list[AuditEvent]
    searched_after: int
    searched_upto: int
    is_last: bool


class LogSearch:
    """Searches a log, and shows events as `audit` does."""

    def __init__(self, log: PostgresLog, audit: Audit) -> None:
        self._log = log
        self._audit = audit

    async def newest(self, wanted: Wanted, after: int, upto: int, *, limit: int = 50) -> LogPage:
        """The newest events that match, of those after a position and up to another."""
        limit, reached = max(1, min(limit, MAX_LIMIT)), after
        if wanted.stream_id is None:
            most = MAX_POSITIONS if wanted.text is None else MAX_TEXT_POSITIONS
            reached = max(after, upto - most)
        items = await self._between(wanted, reached, upto, limit) if upto > reached else []
        if len(items) == limit:
            reached = items[-1].position - 1
        return LogPage(items, min(reached, upto), upto, is_last=reached <= after)

    async def _between(self, wanted: Wanted, after: int, upto: int, limit: int) -> list[AuditEvent]:
        values = _values(wanted)
        conditions = ["position > %(after)s", "position <= %(upto)s"]
        conditions += [_CONDITIONS[field] for field in values]
        # By version: versions have the order of positions, and an index by stream.
        order = "position" if wanted.stream_id is None else "version"
        query = (
            f"SELECT {COLUMNS} FROM log.events WHERE {' AND '.join(conditions)}"
            f" ORDER BY {order} DESC LIMIT %(limit)s"
        )
        async with self._log.pool.connection() as conn:
            cursor = conn.cursor(binary=True)
            await cursor.execute(
                query.encode(), {**values, "after": after, "upto": upto, "limit": limit}
            )
            rows = raw_rows(await cursor.fetchall())
        return [self._audit.shown(raw) for raw in rows]


def _values(wanted: Wanted) -> dict[str, object]:
    """The values of the conditions that are asked for."""
    values: dict[str, object] = {
        "stream_id": wanted.stream_id,
        "name": None if wanted.name is None else like(wanted.name),
        "actor": wanted.actor,
        "correlation_id": wanted.correlation_id,
        # as it stands inside of a JSON string
        "text": None if wanted.text is None else msgspec.json.encode(wanted.text)[1:-1],
    }
    return {field: value for field, value in values.items() if value is not None}
