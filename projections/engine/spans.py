"""Spans of the read models: when they showed what a request has led to."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from time import time_ns

import psycopg

from eventstore.consumers.reader import Page
from kit import tracing

MAX_EVENTS = 200
"""Larger pages have no spans: whoever catches up on history is late for all of it."""

_TRACED = "SELECT name, traceparent FROM log.events WHERE position = ANY (%s) ORDER BY position"


def record_folds(
    conn: psycopg.Connection,
    folds: Sequence[tuple[str, Collection[str]]],
    page: Page,
    began: int,
) -> None:
    """Record a span for each projection (its name, and the events that it folds) and each trace
    that it has folded events of, from `began` (nanoseconds since 1970) until now.

    The parent is the span that appended the first of these events; those of the others are linked.
    """
    if not 0 < len(page) <= MAX_EVENTS or not folds:
        return
    ended = time_ns()
    try:
        found = conn.execute(_TRACED, ([place.position for place, _ in page],)).fetchall()
    except psycopg.Error:  # the rows are written: nobody may fold the page again for that
        return
    for projection, names in folds:
        traces: dict[str, list[str]] = defaultdict(list)
        for name, traceparent in found:
            traced = tracing.TRACEPARENT.fullmatch(traceparent or "")
            if name in names and traced is not None:
                traces[traced[1]].append(traceparent)
        for first, *others in traces.values():
            tracing.record(f"fold {projection}", first, began, ended, links=others)
