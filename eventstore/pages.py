"""Queries for pages of the log, bounded by bytes as well as by count, so that large events do not
cost more memory."""

from collections.abc import Sequence

from psycopg.rows import TupleRow

PAGE_BYTES = 8 * 1024**2
"""The most payload of a page with more than one event."""

SMALL_EVENT_BYTES = 4_096
"""The most payload of an event in a statement that reads many streams at once."""

HEAD = "SELECT coalesce(max(position), 0) FROM log.events"
"""The position of the last event."""

COLUMNS = (
    "position, event_id, stream_id, version, name, recorded_at, coalesce(occurred_at, recorded_at)"
    " AS occurred_at, actor, correlation_id, causation_id, traceparent, payload"
)
"""What is read of an event: envelope and payload."""

PAYLOAD = 11
"""The index of the payload in COLUMNS."""


def bounded(where: str, *more: str, limit: str = "%s", order: str = "position") -> str:
    """A query for a page, in the order of the log or of a stream; its last parameter is the maximal
    number of events.

    Payloads beyond PAGE_BYTES are not read but come as NULL: see `fitting`.
    """
    fits = f"row_number() OVER page = 1 OR sum(octet_length(payload)) OVER page <= {PAGE_BYTES}"
    columns = ", ".join([_with_payload_if(fits), *more])
    return f"""
SELECT {columns}
FROM log.events WHERE {where}
WINDOW page AS (ORDER BY {order} ROWS UNBOUNDED PRECEDING)
ORDER BY {order} LIMIT {limit}
"""


def small(where: str, limit: int, *, order: str = "position") -> str:
    """As `bounded`, for pages of small events: cheaper, as it computes no sum.

    Payloads above an event's share of PAGE_BYTES come as NULL. If there are any, use `bounded`
    instead.
    """
    fits = f"octet_length(payload) <= {PAGE_BYTES // max(1, limit)}"
    return f"""
SELECT {_with_payload_if(fits)}
FROM log.events WHERE {where}
ORDER BY {order} LIMIT %s
"""


def _with_payload_if(condition: str) -> str:
    return COLUMNS.removesuffix("payload") + f"CASE WHEN {condition} THEN payload END AS payload"


def first_of_each(limit: int, share: int) -> str:
    """A query for the first events of several streams, each above a version, at most `limit` of
    each; its parameters are the streams and the versions, in arrays of the same length.

    In the order of the streams, with the number of the stream, counted from 1, after the columns.
    Payloads of more than `share` bytes come as NULL.
    """
    columns = _with_payload_if(f"octet_length(payload) <= {share}")
    return (
        f"SELECT {columns}, wanted.n FROM unnest(%s::uuid[], %s::bigint[]) WITH ORDINALITY"
        " AS wanted (id, after, n) CROSS JOIN LATERAL (SELECT * FROM log.events e"
        " WHERE e.stream_id = wanted.id AND e.version > wanted.after"
        f" ORDER BY e.version LIMIT {limit}) AS first ORDER BY wanted.n, version"
    )


def fitting(rows: Sequence[TupleRow]) -> Sequence[TupleRow]:
    """The rows of a page that came with their payloads."""
    if not rows or rows[-1][PAYLOAD] is not None:
        return rows
    return rows[: next(number for number, row in enumerate(rows) if row[PAYLOAD] is None)]
