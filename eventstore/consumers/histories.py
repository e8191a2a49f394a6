"""Consumers and the history of the log (`eventstore.history`): which followed another one, and how
they go on.

A checkpoint remembers the event at its position. When the log has another one there, or ends before
it, the log went back without its consumers, and the consumer is astray. Rows are folded anew. A
consumer that acts (a reactor, the relay) stops until an operator puts it back to a place on its
trail: it recognises repeats, but somebody should know of them.
"""

import logging
from collections.abc import Iterable

import psycopg

from eventstore.consumers import checkpoints
from eventstore.history import Epoch

logger = logging.getLogger(__name__)

TRAIL_SECONDS = 60
"""How often a moving consumer records its position."""

TRAIL_DAYS = 30
"""How long these records are kept."""

RECOVER = "ludoteca projections recover"
"""The command that puts a consumer back."""

_LEAVE = """
INSERT INTO consumers.trail (feed, position, head, event_id)
SELECT c.feed, c.position, coalesce(l.position, 0), l.event_id
FROM consumers.checkpoints c
LEFT JOIN (SELECT position, event_id FROM log.events ORDER BY position DESC LIMIT 1) l ON true
WHERE c.feed = ANY (%(feeds)s) AND NOT EXISTS (
    SELECT FROM consumers.trail t
    WHERE t.feed = c.feed AND t.at > clock_timestamp() - make_interval(secs => %(seconds)s))
"""
_DROP_OLD = "DELETE FROM consumers.trail WHERE at < clock_timestamp() - make_interval(days => %s)"

_LAST_COMMON = """
SELECT t.position
FROM consumers.trail t LEFT JOIN log.events e ON e.position = t.head
WHERE t.feed = %s AND e.event_id IS NOT DISTINCT FROM t.event_id
ORDER BY t.at DESC LIMIT 1
"""

_BEGIN_EPOCH_ONCE = """
SELECT log.begin_epoch(e.number, %s)
FROM (SELECT number, begun_at FROM log.epochs ORDER BY number DESC LIMIT 1) e,
    consumers.checkpoints c
WHERE c.feed = %s AND e.begun_at < c.updated_at
"""

_EPOCHS = "SELECT number, id, position FROM log.epochs ORDER BY number DESC"

_REWIND = """
UPDATE consumers.checkpoints
SET position = %(at)s, updated_at = clock_timestamp(),
    event_id = (SELECT event_id FROM log.events WHERE position = %(at)s)
WHERE feed = %(feed)s
"""

_RELEASE_LOST = """
DELETE FROM consumers.quarantine q
WHERE feed = %s AND NOT EXISTS (
    SELECT FROM log.events e WHERE e.position = q.position AND e.stream_id = q.stream_id
)
"""

_SHORTEN_TO = "DELETE FROM consumers.trail t WHERE feed = %s AND position > %s"


class NoTrail(Exception):
    """The log has no place of the consumer's trail any more."""


def leave_trail(conn: psycopg.Connection, names: Iterable[str]) -> None:
    """Record where these consumers are, unless that was done within TRAIL_SECONDS."""
    if conn.execute(_LEAVE, {"feeds": list(names), "seconds": TRAIL_SECONDS}).rowcount:
        conn.execute(_DROP_OLD, (TRAIL_DAYS,))


class Epochs:
    """Finds the epoch of an event."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self._epochs = [Epoch(*row) for row in conn.execute(_EPOCHS)]

    def of(self, position: int) -> str | None:
        """The label of the epoch of this position; None before the first."""
        return next((epoch.label for epoch in self._epochs if epoch.position < position), None)


def note_astray(conn: psycopg.Connection, name: str) -> None:
    """Begin an epoch because of a consumer that went astray, unless one began since the consumer
    last moved."""
    conn.execute(_BEGIN_EPOCH_ONCE, (f"{name} followed another history", name))


def log_astray(conn: psycopg.Connection, row: checkpoints.Subscription) -> None:
    """Log that a consumer that acts is astray, and how to recover it."""
    note_astray(conn, row.name)
    logger.error(
        "%s stands still: it followed another history of the log. To have it go on: %s %s",
        row.name,
        RECOVER,
        row.projection,
    )


def last_common(conn: psycopg.Connection, name: str) -> int:
    """The last position from which a consumer that acts can go on without missing an event. Raises
    NoTrail."""
    row = conn.execute(_LAST_COMMON, (name,)).fetchone()
    if row is None:
        raise NoTrail(name)
    return int(row[0])


def rewind(conn: psycopg.Connection, name: str, position: int) -> None:
    """Put a consumer that acts back to a position. Drops quarantined streams whose events are
    lost."""
    with conn.transaction():
        note_astray(conn, name)
        conn.execute(_REWIND, {"at": position, "feed": name})
        conn.execute(_RELEASE_LOST, (name,))
        conn.execute(_SHORTEN_TO, (name, position))
