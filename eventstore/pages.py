"""Pages of the log bounded by bytes as well as by count, so that memory does not depend on how large events are."""

from collections.abc import Sequence

from psycopg.rows import TupleRow

PAGE_BYTES = 8 * 1024**2
"""Payload of a page at most, if it has more than one event."""

COLUMNS = (
    "position, event_id, stream_id, version, name, recorded_at, coalesce(occurred_at, recorded_at) AS occurred_at,"
    " actor, correlation_id, causation_id, traceparent, payload"
)
"""What is read of an event: its envelope, and its payload."""

PAYLOAD = 11
"""Where the payload stands in COLUMNS."""

_FITS = f"row_number() OVER page = 1 OR sum(octet_length(payload)) OVER page <= {PAGE_BYTES}"


def bounded(where: str, *more: str, limit: str = "%s") -> str:
    """A query for a page in the order of the log; its last parameter is how many events at most.

    Payloads beyond PAGE_BYTES are not read, but come as NULL: see `fitting`.
    """
    columns = ", ".join([COLUMNS.removesuffix("payload") + f"CASE WHEN {_FITS} THEN payload END AS payload", *more])
    window = "WINDOW page AS (ORDER BY position ROWS UNBOUNDED PRECEDING)"
    return f"SELECT {columns} FROM log.events WHERE {where} {window} ORDER BY position LIMIT {limit}"


def fitting(rows: Sequence[TupleRow]) -> Sequence[TupleRow]:
    """The rows of a page that came with their payloads."""
    if not rows or rows[-1][PAYLOAD] is not None:
        return rows
    return rows[: next(number for number, row in enumerate(rows) if row[PAYLOAD] is None)]
