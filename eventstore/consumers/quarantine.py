"""Quarantine: the streams whose event a subscription could not apply, and has skipped since."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg

from eventstore.consumers.checkpoints import subscriptions


class Quarantined(msgspec.Struct, frozen=True):
    """A quarantined stream: the subscription `feed` could not apply its event at `position`, of the
    wire name `name`, and has skipped the stream since."""

    id: UUID
    feed: str
    stream_id: UUID
    position: int
    name: str
    error: str
    since: datetime
    attempts: int
    retry: bool


_QUARANTINED = """
SELECT id, feed, stream_id, position, name, error, since, attempts, retry
FROM consumers.quarantine WHERE %(feeds)s::text[] IS NULL OR feed = ANY (%(feeds)s)
ORDER BY position
"""

ADD = """
INSERT INTO consumers.quarantine (feed, stream_id, position, name, error)
SELECT %s, u.id, u.at, u.name, left(u.error, 2000)
FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::text[]) AS u(id, at, name, error)
ON CONFLICT (feed, stream_id) DO UPDATE SET
    position = excluded.position, name = excluded.name, error = excluded.error,
    attempts = quarantine.attempts + 1, retry = false
"""

RELEASE = "DELETE FROM consumers.quarantine WHERE id = ANY (%s)"

_HOLD_FROM = "UPDATE consumers.quarantine SET position = %s WHERE id = %s"

_WITHDRAW_RETRY = "UPDATE consumers.quarantine SET retry = false WHERE feed = %s"

_RETRY_REQUESTED = "SELECT DISTINCT feed FROM consumers.quarantine WHERE retry"


def held(conn: psycopg.Connection, names: Sequence[str] | None = None) -> list[Quarantined]:
    """Quarantined streams, of some subscriptions or of all."""
    wanted = {"feeds": list(names) if names is not None else None}
    return [Quarantined(*row) for row in conn.execute(_QUARANTINED, wanted)]


def add(conn: psycopg.Connection, name: str, streams: Sequence[tuple[UUID, int, str, str]]) -> None:
    """Quarantine streams: for each its id, and the position, name and error of the failed event.
    Counts another attempt for those already in quarantine."""
    if streams:
        conn.execute(ADD, [name, *map(list, zip(*streams, strict=True))])


def release(conn: psycopg.Connection, ids: Iterable[UUID]) -> None:
    """Remove streams from quarantine once they are applied."""
    conn.execute(RELEASE, (list(ids),))


def hold_from(conn: psycopg.Connection, quarantined: UUID, position: int) -> None:
    """Record that a quarantined stream was applied up to just before a position."""
    conn.execute(_HOLD_FROM, (position, quarantined), prepare=True)


def withdraw_retry(conn: psycopg.Connection, name: str) -> None:
    """Withdraw all requests to retry a subscription's streams."""
    conn.execute(_WITHDRAW_RETRY, (name,))


def retry_requested(conn: psycopg.Connection) -> set[str]:
    """The subscriptions with streams to be retried, without those astray: they begin anew, with an
    empty quarantine."""
    names = {name for (name,) in conn.execute(_RETRY_REQUESTED, prepare=True)}
    if not names:
        return names
    return {
        row.name
        for row in subscriptions(conn)
        if row.name in names and not row.astray and row.examined
    }
