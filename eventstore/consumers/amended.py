"""In the database: up to which amendments (`eventstore.amendments`) a subscription has taken them
up, and the streams that it has to apply again because of them."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import psycopg

from eventstore.consumers.checkpoints import wake

TO_BE_READ_ANEW = "to be read anew, as it was amended"
"""The error of a stream that is in quarantine only until it was applied again."""

_READ_ANEW = f"""
INSERT INTO consumers.quarantine (feed, stream_id, position, name, error, retry)
SELECT %s, u.id, u.at, u.name, '{TO_BE_READ_ANEW}', true
FROM unnest(%s::uuid[], %s::bigint[], %s::text[]) AS u(id, at, name)
ON CONFLICT (feed, stream_id) DO UPDATE SET
    position = excluded.position, name = excluded.name, error = excluded.error, retry = true
WHERE excluded.position <= quarantine.position
"""

RETRY_AT = """
UPDATE consumers.quarantine SET retry = true
WHERE feed = %s AND position = ANY (%s) AND NOT retry
"""

_AMENDED = "UPDATE consumers.feeds SET amended = %s WHERE feed = %s"

_RELEASE_STREAMS = "DELETE FROM consumers.quarantine WHERE feed = %s AND stream_id = ANY (%s)"


def taken_up(conn: psycopg.Connection, name: str, upto: int) -> None:
    """Record that a subscription has taken up all amendments up to a position."""
    conn.execute(_AMENDED, (upto, name))


def read_anew(
    conn: psycopg.Connection, name: str, streams: Sequence[tuple[UUID, int, str]]
) -> None:
    """Have streams applied again, from an event on that was amended: for each its id, and the
    position and name of the event. One that is in quarantine before that event stays there."""
    if streams:
        conn.execute(_READ_ANEW, [name, *map(list, zip(*streams, strict=True))])
        wake(conn)


def retry_at(conn: psycopg.Connection, name: str, positions: Sequence[int]) -> None:
    """Ask for another try of the streams that are in quarantine because of events at these
    positions."""
    conn.execute(RETRY_AT, (name, list(positions)))


def release_streams(conn: psycopg.Connection, name: str, streams: Iterable[UUID]) -> None:
    """Remove a subscription's streams from quarantine once they are applied."""
    conn.execute(_RELEASE_STREAMS, (name, list(streams)))
