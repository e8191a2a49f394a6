"""The events of a flow: what one request set in motion, found by anything that belongs to it."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import msgspec
from psycopg.rows import TupleRow

from domain.ids import notice_id
from eventstore.decoding import raw_rows
from eventstore.finding import SLACK, find_event, time_of
from eventstore.log import Envelope
from eventstore.moments import recorded_by
from eventstore.pages import COLUMNS
from eventstore.postgres_log import PostgresLog
from kit.json_errors import JSON_ERRORS

OF_ONE_FLOW = frozenset(
    {
        *("order", "payment", "shipment", "transaction", "receipt", "notification", "webhook"),
        *("ledger", "notice"),
    }
)
"""Kinds of streams that belong to one flow as a whole. Of others, such as wallets and games, only
the flow's own events count."""

MAX_EVENTS = 500
"""The most events that are read of a flow, and of a stream."""

MAX_CORRELATIONS = 50
"""How many requests are followed from one stream, the latest."""

MAX_POSITIONS = 1_000_000
"""The most positions that are looked through: the log has no index by request."""

_TRACE = re.compile(r"(?:[0-9a-f]{2}-)?([0-9a-f]{32})(?:-[0-9a-f]{16}-[0-9a-f]{2})?")

_OF_REQUESTS = f"""
SELECT {COLUMNS.removesuffix("payload")} '\\x'::bytea AS payload, count(*) OVER () FROM log.events
WHERE position > %(after)s AND position <= %(upto)s
    AND (correlation_id = ANY (%(ids)s) OR event_id = ANY (%(ids)s)
        OR traceparent LIKE %(trace)s)
ORDER BY name <> ALL (%(whole)s), position LIMIT {MAX_EVENTS}
"""
"""Streams that belong to the flow as a whole come first: a client names its requests, and may give
many of them the same id."""

_OF_STREAMS = f"""
SELECT found.* FROM unnest(%(ids)s::uuid[]) AS s (id) CROSS JOIN LATERAL (
    SELECT {COLUMNS.removesuffix("payload")} '\\x'::bytea AS payload FROM log.events e
    WHERE e.stream_id = s.id ORDER BY e.version DESC LIMIT {MAX_EVENTS}
) AS found ORDER BY position
"""

_NOTED = "SELECT stream_id, payload FROM log.events WHERE position = ANY (%(positions)s)"


class NothingToTrace(Exception):
    """Not an id, or not one that the log has."""


class _Noted(msgspec.Struct):
    """The payload of `payment.notice_received.v1`."""

    provider_event_id: str


class Stream(msgspec.Struct, frozen=True):
    """A stream in a flow: its kind and its version."""

    stream_id: UUID
    kind: str
    version: int


class Flow(msgspec.Struct, frozen=True):
    """A flow: what was asked for (`stream`, `event`, `request`, `trace`), its requests, its events
    in order, and the streams that they belong to. `left_out` counts further events of the requests,
    which were too many; `cut` the earlier events of streams with more than MAX_EVENTS, by id."""

    kind: str
    requests: Collection[UUID]
    events: list[Envelope]
    streams: Mapping[UUID, Stream]
    left_out: int
    cut: Mapping[UUID, int]


async def flow_of(log: PostgresLog, asked: str) -> Flow:
    """The flow of a position, a stream, an event, a request (correlation id), or a trace (its id,
    or a `traceparent`). Raises NothingToTrace."""
    head = await log.head()
    if asked.isdecimal() and len(asked) < 19:
        found = await log.read_raw(int(asked) - 1, upto=int(asked))
        if not found or asked == "0":
            raise NothingToTrace(f"the log has no position {asked}: it ends at {head}")
        return await _flow(log, "event", [found[0][0]], head)
    if (trace := _TRACE.fullmatch(asked.lower())) is not None:
        events, _ = await _of_requests(log, [], trace[1], max(0, head - MAX_POSITIONS), head)
        if events:
            return await _flow(log, "trace", events, head)
    try:
        id_ = UUID(asked)
    except ValueError:
        raise NothingToTrace(
            f"{asked} is neither a position of the log nor the id of a stream, an event, a request"
            " or a trace"
        ) from None
    if events := await _of_streams(log, [id_]):
        return await _flow(log, "stream", events, head)
    if (event := await find_event(log, id_, head)) is not None:
        return await _flow(log, "event", [event[0]], head)
    events, _ = await _of_requests(log, [id_], "", await _start_of(log, id_, head), head)
    if events:
        return await _flow(log, "request", events, head)
    raise NothingToTrace(
        f"nothing of {id_} is in the log, or it is a request further back than {MAX_POSITIONS}"
        " positions"
    )


async def _flow(log: PostgresLog, kind: str, found: list[Envelope], head: int) -> Flow:
    """The flow that contains these events: the others of their requests, and the rest of the
    streams that belong to it as a whole."""
    requests = list(dict.fromkeys(env.correlation_id or env.event_id for env in reversed(found)))
    requests = requests[:MAX_CORRELATIONS]
    first = min(env.position for env in found) - 1
    after = max(0, first - 2 * MAX_EVENTS)  # the request may have begun elsewhere
    upto = min(head, after + MAX_POSITIONS)
    events = {env.position: env for env in found}
    of_requests, left_out = await _of_requests(log, requests, "", after, upto)
    events |= {env.position: env for env in of_requests}
    whole = {env.stream_id for env in events.values() if _kind(log, env) in OF_ONE_FLOW}
    for env in await _of_streams(log, whole):
        events[env.position] = env
    for env in await _of_streams(log, await _notices(log, events.values())):
        events[env.position] = env
        whole.add(env.stream_id)
    ordered = [events[position] for position in sorted(events)]
    streams = {
        env.stream_id: Stream(env.stream_id, _kind(log, env), env.version) for env in ordered
    }
    if kind == "stream":
        whole.add(found[0].stream_id)
    cut = _cut({id_: streams[id_] for id_ in whole}, ordered)
    return Flow(kind, requests, ordered, streams, left_out, cut)


def _cut(streams: Mapping[UUID, Stream], events: Collection[Envelope]) -> dict[UUID, int]:
    """How many events of each stream are missing, if any: versions have no gap."""
    held = Counter(env.stream_id for env in events)
    missing = {id_: stream.version - held[id_] for id_, stream in streams.items()}
    return {id_: number for id_, number in missing.items() if number}


def _kind(log: PostgresLog, env: Envelope) -> str:
    return log.codec.kinds.get(env.name, env.name.partition(".")[0])


async def _start_of(log: PostgresLog, id_: UUID, head: int) -> int:
    """A position before the events of a request with this id."""
    made_at = time_of(id_)
    if made_at is None:
        return max(0, head - MAX_POSITIONS)
    async with log.pool.connection() as conn:
        return await recorded_by(conn, made_at - max(SLACK, timedelta(minutes=1)))


async def _of_requests(
    log: PostgresLog, ids: Collection[UUID], trace_id: str, after: int, upto: int
) -> tuple[list[Envelope], int]:
    """Events of requests or of a trace, in order, and how many more there are."""
    upto = min(upto, after + MAX_POSITIONS)
    trace = f"__-{trace_id}-%" if trace_id else None
    whole = [name for name, kind in log.codec.kinds.items() if kind in OF_ONE_FLOW]
    values = {"after": after, "upto": upto, "ids": list(ids), "trace": trace, "whole": whole}
    rows = await _rows(log, _OF_REQUESTS, values)
    count = rows[0][-1] if rows else 0
    envelopes = [env for env, _ in raw_rows(rows)]
    return sorted(envelopes, key=lambda env: env.position), count - len(rows)


async def _of_streams(log: PostgresLog, ids: Collection[UUID]) -> list[Envelope]:
    rows = await _rows(log, _OF_STREAMS, {"ids": list(ids)}) if ids else []
    return [env for env, _ in raw_rows(rows)]


async def _notices(log: PostgresLog, events: Collection[Envelope]) -> set[UUID]:
    """The streams in which notices about these payments and shipments may have been kept: the
    provider may speak of a payment long after its request."""
    found = {notice_id(env.stream_id) for env in events if _kind(log, env) == "shipment"}
    positions = [env.position for env in events if env.name == "payment.notice_received.v1"]
    rows = await _rows(log, _NOTED, {"positions": positions}) if positions else []
    for payment_id, payload in rows:
        with suppress(*JSON_ERRORS):  # an event that cannot be read: the others are told
            noted = msgspec.json.decode(payload, type=_Noted)
            found.add(notice_id(payment_id, noted.provider_event_id))
    return found


async def _rows(log: PostgresLog, query: str, values: dict[str, object]) -> list[TupleRow]:
    async with log.pool.connection() as conn:
        cursor = conn.cursor(binary=True)
        await cursor.execute(query.encode(), values)
        return await cursor.fetchall()
