"""The log for auditors: every event with its envelope, one stream's events, and a stream's state at
a moment.

Personal fields stay encrypted: an auditor sees that there is a value, not which.
"""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from eventstore.aggregate import Aggregate
from eventstore.codec import UnknownEvent
from eventstore.decoding import Raw, raw_rows
from eventstore.log import Envelope
from eventstore.pages import COLUMNS
from eventstore.postgres_log import PostgresLog
from eventstore.snapshots import plain
from kit.forgotten import ENCRYPTED, FORGOTTEN
from kit.wording import described
from queries.audit.why import Stop
from queries.engine.paging import MAX_LIMIT
from queries.engine.positions import PositionUnknown

MAX_LEVELS = 100
"""How deep a payload may be nested to be shown as JSON. JSON libraries give up at some hundreds."""

MAX_SCANNED_POSITIONS = 1_000_000
"""The most positions that one query looks through: the log has no index by name, actor or
correlation."""

Payload = dict[str, Any]  # any JSON object

_AFTER_IN_STREAM = """version > coalesce(
    (SELECT version FROM log.events WHERE position = %(after)s AND stream_id = %(stream_id)s),
    (SELECT version FROM log.events WHERE position <= %(after)s AND stream_id = %(stream_id)s
     ORDER BY version DESC LIMIT 1),
    0)"""
"""Finds the version to continue from: at once when `after` is the last event of a page, else by a
search."""


class AuditEvent(msgspec.Struct, frozen=True):
    """An event: its envelope, and its payload as it is stored, personal fields as ENCRYPTED."""

    position: int
    event_id: UUID
    stream_id: UUID
    version: int
    name: str
    recorded_at: datetime
    occurred_at: datetime
    actor: str
    correlation_id: UUID | None
    causation_id: UUID | None
    traceparent: str | None
    payload: Payload


class Trail(msgspec.Struct, frozen=True):
    """Events in order. `next_after` is where to continue; None at the end of the log. A part may be
    empty and yet not the last one, when much of the log had to be looked through."""

    items: list[AuditEvent]
    next_after: int | None


class StreamState(msgspec.Struct, frozen=True):
    """A stream at a moment: its kind, its version, the position of its last event, and its state.

    `stopped_by` is an event that cannot be read or applied, if there is one: version, position and
    state are those before it, 0 and empty if it is the first.
    """

    stream_id: UUID
    kind: str
    version: int
    position: int
    state: Payload
    stopped_by: Stop | None


class Audit:
    """Reads the log. `aggregates` are all kinds of streams."""

    def __init__(self, log: PostgresLog, aggregates: Sequence[Aggregate[Any]]) -> None:
        self._log = log
        self._aggregates = aggregates

    async def events(
        self,
        *,
        stream_id: UUID | None = None,
        name: str | None = None,
        actor: str | None = None,
        correlation_id: UUID | None = None,
        after: int = 0,
        upto: int | None = None,
        limit: int = 100,
    ) -> Trail:
        """Events after a position, in order, that match all given filters; `name` may be a pattern
        such as `payment.*`. At most MAX_LIMIT. The log counts as ended at `upto`.
        """
        limit, head = max(1, min(limit, MAX_LIMIT)), upto
        if head is None:
            head = await self._log.head()
        wanted = {
            "stream_id": stream_id,
            "name": name,
            "actor": actor,
            "correlation_id": correlation_id,
        }
        values: dict[str, object] = {
            field: value for field, value in wanted.items() if value is not None
        }
        last = head if stream_id is not None else min(head, after + MAX_SCANNED_POSITIONS)
        # By version: versions have the order of positions, and an index by stream.
        place, order = (
            ("position > %(after)s", "position")
            if stream_id is None
            else (_AFTER_IN_STREAM, "version")
        )
        conditions = [place, "position <= %(upto)s"]
        conditions += [
            f"{field} {'LIKE' if field == 'name' else '='} %({field})s" for field in values
        ]
        if name is not None:
            values["name"] = like(name)
        found = await self._read(
            f"WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT %(limit)s",
            {**values, "after": after, "upto": last, "limit": limit},
        )
        items = [self.shown(raw) for raw in found]
        if len(items) == limit:
            return Trail(items, items[-1].position)
        return Trail(items, last if last < head else None)

    async def stream(
        self,
        stream_id: UUID,
        *,
        after_version: int = 0,
        upto: int | None = None,
        limit: int = MAX_LIMIT,
    ) -> list[AuditEvent]:
        """A stream's events above a version and up to a position, in order, at most MAX_LIMIT; none
        when the stream does not exist."""
        found = await self._read(
            "WHERE stream_id = %(id)s AND version > %(after)s"
            " AND (%(upto)s::bigint IS NULL OR position <= %(upto)s)"
            " ORDER BY version LIMIT %(limit)s",
            {
                "id": stream_id,
                "after": after_version,
                "upto": upto,
                "limit": max(1, min(limit, MAX_LIMIT)),
            },
        )
        return [self.shown(raw) for raw in found]

    async def state(
        self, stream_id: UUID, as_of: int | datetime | None = None
    ) -> StreamState | None:
        """A stream at a log position, a time, or now; None when it did not exist.

        Raises PositionUnknown; UnknownEvent when it begins with an event of a newer release;
        LookupError when no aggregate folds such a stream.
        """
        upto = await self.position_at(as_of) if as_of is not None else None
        pages = self._log.read_whole_streams([stream_id], upto=upto)
        page = await anext(pages, None)
        if page is None:
            return None
        log = self._log if upto is None else await self._log.as_of(upto)
        aggregate = self._aggregate_of(page[0][0])
        state, last, stop = await _folded(log, aggregate, None, None, page)
        async for page in pages:
            if stop is not None:
                break
            state, last, stop = await _folded(log, aggregate, state, last, page)
        version, position = (0, 0) if last is None else (last.version, last.position)
        plainly = {} if state is None else msgspec.to_builtins(state, str_keys=True, enc_hook=plain)
        return StreamState(stream_id, aggregate.kind, version, position, _closed(plainly), stop)

    def _aggregate_of(self, first: Envelope) -> Aggregate[Any]:
        """What folds streams that begin with this event. Raises UnknownEvent for one of a newer
        release."""
        kind = self._log.codec.kinds.get(first.name)
        if kind is None:
            raise UnknownEvent(first.name)
        for aggregate in self._aggregates:
            if aggregate.kind == kind:
                return aggregate
        raise LookupError(f"no aggregate folds streams of {kind}")

    async def position_at(self, moment: int | datetime) -> int:
        """The position of a moment: that of the last event that had occurred by then. Raises
        PositionUnknown."""
        if isinstance(moment, int):
            head = await self._log.head()
            if moment > head:
                raise PositionUnknown(moment, head)
            return moment
        return await self._log.position_at(moment)

    async def time_at(self, position: int) -> datetime | None:
        """When the event at a position occurred; None before the first one."""
        events = await self._log.read(position - 1, upto=position)
        return events[0].env.occurred_at if events else None

    async def _read(self, rest: str, values: dict[str, object]) -> list[Raw]:
        async with self._log.pool.connection() as conn:
            cursor = conn.cursor(binary=True)
            await cursor.execute(f"SELECT {COLUMNS} FROM log.events {rest}".encode(), values)
            return raw_rows(await cursor.fetchall())

    def shown(self, raw: Raw) -> AuditEvent:
        """An event as auditors see it."""
        env, stored = raw
        try:
            payload: Payload = msgspec.json.decode(stored, type=dict[str, Any])
            for field in self._personal(env, stored, payload):
                payload[field] = ENCRYPTED
            readable = not _is_deep(payload)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            readable = False
        if not readable:  # an event that this program does not know is shown all the same
            payload = {"payload_base64": b64encode(stored).decode()}
        return AuditEvent(**msgspec.structs.asdict(env), payload=payload)

    def _personal(self, env: Envelope, stored: bytes, payload: Payload) -> list[str]:
        """The fields that are stored encrypted. Read without a key, they are forgotten or
        absent."""
        sealed = [
            field
            for field, value in payload.items()
            if isinstance(value, str) and value.startswith("1:")
        ]
        if not sealed or not self._log.codec.knows(env.name):
            return sealed
        event = self._log.codec.decode(env.name, stored, env.stream_id)
        return [field for field in sealed if getattr(event, field, None) in {None, FORGOTTEN}]


async def _folded(
    log: PostgresLog,
    aggregate: Aggregate[Any],
    state: Any,
    last: Envelope | None,
    page: Sequence[Raw],
) -> tuple[Any, Envelope | None, Stop | None]:
    """The state after a page of events, the last one that was applied, and the one that could not
    be, if any."""
    for raw in page:
        env = raw[0]
        try:
            (recorded,) = await log.decode_closed([raw])
            state = aggregate.fold(state, [recorded.event])
        except psycopg.Error:
            raise
        except Exception as error:  # whatever an event is that does not fit
            return state, last, Stop(env.stream_id, env.position, env.name, described(error))
        last = env
    return state, last, None


def like(name: str) -> str:
    """A pattern of LIKE for a name in which `*` matches anything."""
    return name.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_").replace("*", "%")


def _is_deep(value: Any) -> bool:
    """Whether the value is nested deeper than MAX_LEVELS."""
    level = [value]
    for _ in range(MAX_LEVELS):
        level = [part for each in level for part in _parts(each)]
        if not level:
            return False
    return True


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _closed(value: Any) -> Any:
    """A state that was folded without keys, with ENCRYPTED in place of what it cannot show."""
    if isinstance(value, dict):
        return {key: _closed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_closed(each) for each in value]
    return ENCRYPTED if value == FORGOTTEN else value
