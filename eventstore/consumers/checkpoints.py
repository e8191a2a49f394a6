"""Subscriptions in the database: checkpoints and active storages."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import psycopg

from eventstore import pages
from eventstore.amendments import STREAM
from eventstore.database.locks import LEAD
from eventstore.database.release import require_current

WAKE = "ludoteca_feeds"
"""The channel notified when subscriptions are added, switched, paused, or to be retried: runners
then look again."""


class Subscription(msgspec.Struct, frozen=True):
    """A subscription (one consumer of the log), and its checkpoint."""

    name: str
    projection: str
    version: int
    storage: str
    position: int
    active: bool
    paused: bool
    building: bool
    astray: bool = False
    """The log does not have the event at its checkpoint, or the amendment by which its rows were
    read: the subscription followed another history."""
    examined: bool = True
    """Whether the subscription's output was checked against the log's history
    since the latest epoch began."""
    ready_at: int | None = None
    """The position it must reach before queries may read it; None once it has, or when it belongs
    to a rebuild."""
    amended: int = 0
    """The position of the latest amendment (`eventstore.amendments`) that it has taken up."""


class CheckpointMoved(Exception):
    """Another process moved this subscription's checkpoint, or the log went back. None of our
    changes were written."""


SUBSCRIPTIONS = "consumers.feeds f JOIN consumers.checkpoints c USING (feed)"
"""All subscriptions with their checkpoints."""

ASTRAY = """(c.position > 0 AND NOT EXISTS (
    SELECT FROM log.events e WHERE e.position = c.position
        AND e.event_id = coalesce(c.event_id, e.event_id)
))"""
"""Whether the checkpoint `c` belongs to another history than the log's."""

_READ_OTHERWISE = f"""(f.storage <> '' AND f.amended > 0 AND NOT EXISTS (
    SELECT FROM log.events e WHERE e.position = f.amended AND e.stream_id = '{STREAM}'
))"""
"""Whether the rows of the subscription `f` were read by an amendment that the log does not have."""

EXAMINED = "coalesce(f.epoch = (SELECT id FROM log.epochs ORDER BY number DESC LIMIT 1), false)"
"""Whether the output of the subscription `f` was checked against the log's history in the latest
epoch."""

_COLUMNS = f"""
    feed, projection, version, storage, c.position, active, paused, building,
    {ASTRAY} OR {_READ_OTHERWISE}, {EXAMINED}, ready_at, amended
"""

HEAD = f"({pages.HEAD})"
"""The position of the last event."""

_SUBSCRIPTIONS = f"SELECT {_COLUMNS} FROM {SUBSCRIPTIONS} ORDER BY feed"
_SUBSCRIPTION = f"SELECT {_COLUMNS} FROM {SUBSCRIPTIONS} WHERE feed = %s"
_SUBSCRIPTION_LOCKED = f"{_SUBSCRIPTION} FOR UPDATE OF f, c"

_REGISTERED = "SELECT projection, version FROM consumers.feeds"

_REGISTER = f"""
WITH added AS (
    INSERT INTO consumers.feeds (feed, projection, version, storage, active, ready_at)
    SELECT %(feed)s, %(projection)s, %(version)s, %(storage)s, ready_at IS NULL, ready_at
    FROM (SELECT CASE WHEN %(storage)s <> '' THEN nullif({HEAD}, 0) END AS ready_at) AS log
    WHERE NOT EXISTS (SELECT FROM consumers.feeds WHERE projection = %(projection)s
        AND version = %(version)s)
    ON CONFLICT DO NOTHING
    RETURNING feed
)
INSERT INTO consumers.checkpoints (feed, position, event_id)
SELECT feed, %(position)s, (SELECT event_id FROM log.events WHERE position = %(position)s)
FROM added
"""

_BEGIN_ANEW = f"""
UPDATE consumers.feeds SET active = false, ready_at = greatest({HEAD}, ready_at)
WHERE feed = %s AND (active OR ready_at IS NOT NULL)
RETURNING ready_at
"""

_ACTIVATE_CAUGHT_UP = """
UPDATE consumers.feeds SET active = true, ready_at = NULL
WHERE feed = ANY (%s) AND ready_at IS NOT NULL
"""

_STILL_FOR = """
SELECT updated_at < clock_timestamp() - %s::interval FROM consumers.checkpoints WHERE feed = %s
"""

_ADD_BUILDING = """
INSERT INTO consumers.feeds (feed, projection, version, storage, building)
VALUES (%s, %s, %s, %s, true)
"""
_ADD_CHECKPOINT = """
INSERT INTO consumers.checkpoints (feed, position, event_id)
VALUES (%(name)s, %(at)s, (SELECT event_id FROM log.events WHERE position = %(at)s))
"""

_ACTIVATE = """
UPDATE consumers.feeds f SET active = true, building = false, paused = o.paused
FROM consumers.feeds o WHERE f.feed = %s AND o.feed = %s
"""

_RETIRE = """
UPDATE consumers.feeds SET building = true, active = false, ready_at = NULL
WHERE feed = %s AND (NOT active OR %s)
"""

_MOVE = f"""
UPDATE consumers.checkpoints c SET position = u.new, event_id = u.event_id,
    updated_at = clock_timestamp()
FROM (
    SELECT u.feed, u.old, u.new, e.event_id
    FROM unnest(%(feeds)s::text[], %(olds)s::bigint[], %(news)s::bigint[]) AS u(feed, old, new)
    LEFT JOIN log.events e ON e.position = u.new
) AS u
WHERE c.feed = u.feed AND c.position = u.old AND (u.event_id IS NOT NULL OR u.new = 0) AND
    NOT {ASTRAY}
"""

_MOVE_FREE = f"""
WITH free AS MATERIALIZED (
    SELECT feed FROM consumers.checkpoints WHERE feed = ANY (%(feeds)s) FOR UPDATE SKIP LOCKED
), moved AS ({_MOVE} AND c.feed IN (SELECT feed FROM free) RETURNING c.feed)
SELECT free.feed, moved.feed IS NOT NULL FROM free LEFT JOIN moved USING (feed)
"""

_IDLE_LEADERS = f"""
SELECT DISTINCT a.pid, a.state_change
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.database = a.datid
    AND a.datname = current_database()
    AND l.classid = {LEAD} AND l.objsubid = 2 AND a.pid <> pg_backend_pid()
    AND l.objid = ANY (SELECT (hashtext(n)::bigint & 4294967295)::oid FROM unnest(%s::text[]) n)
    AND (a.state <> 'active' OR a.wait_event_type = 'Client') AND a.state <> 'disabled'
"""

_END_SESSION = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND state_change = %s
"""

NOTE_REFUSAL = """
INSERT INTO consumers.refusals (feed, event_id, position, stream_id, code, detail)
VALUES (%s, %s, %s, %s, %s, left(%s, 2000)) ON CONFLICT DO NOTHING
"""
"""A repeated reaction is refused again, and recorded once."""


def register(
    conn: psycopg.Connection, projection: str, version: int, storage: str, position: int = 0
) -> str:
    """Create the subscription of a projection's version unless it exists. Returns its name.

    Queries do not read a subscription with a storage before it has reached the current head, unless
    the log is empty.
    """
    name = f"{projection}.{version}"
    conn.execute(
        _REGISTER,
        {
            "feed": name,
            "projection": projection,
            "version": version,
            "storage": storage,
            "position": position,
        },
    )
    return name


def registered(conn: psycopg.Connection) -> set[tuple[str, int]]:
    """The projections and versions that have a subscription: runners look every second whether to
    register any."""
    return set(conn.execute(_REGISTERED, prepare=True).fetchall())


def begin_anew(conn: psycopg.Connection, name: str, position: int) -> int | None:
    """Restart a subscription at `position` from the beginning of the log, as its storage is lost.
    If queries read it, they do so again once it has reached the current head, which is returned.
    Raises CheckpointMoved."""
    with conn.transaction():
        move(conn, [(name, position, 0)])
        row = conn.execute(_BEGIN_ANEW, (name,)).fetchone()
    return row[0] if row else None


def activate_caught_up(conn: psycopg.Connection, names: Sequence[str]) -> None:
    """Let queries read subscriptions that have caught up."""
    conn.execute(_ACTIVATE_CAUGHT_UP, (list(names),))
    wake(conn)


def add_building(
    conn: psycopg.Connection, name: str, projection: str, version: int, storage: str, at: int
) -> None:
    """Add a subscription that belongs to a rebuild until it is activated."""
    conn.execute(_ADD_BUILDING, (name, projection, version, storage))
    conn.execute(_ADD_CHECKPOINT, {"name": name, "at": at})


def activate(conn: psycopg.Connection, old: str, new: str) -> None:
    """Let queries read the subscription `new` instead of `old`. The new one takes over the old
    one's pause."""
    conn.execute("UPDATE consumers.feeds SET active = false WHERE feed = %s", (old,))
    conn.execute(_ACTIVATE, (new, old))
    wake(conn)


def retire(conn: psycopg.Connection, name: str, *, active: bool = False) -> bool:
    """Keep projectors off a subscription that will be dropped. Returns False when it is active,
    unless `active` allows that."""
    found = conn.execute(_RETIRE, (name, active))
    wake(conn)
    return found.rowcount > 0


def remove(conn: psycopg.Connection, name: str) -> None:
    """Delete a subscription, its checkpoint and its quarantine."""
    conn.execute("DELETE FROM consumers.feeds WHERE feed = %s", (name,))
    conn.execute("DELETE FROM consumers.quarantine WHERE feed = %s", (name,))
    wake(conn)


def subscriptions(conn: psycopg.Connection) -> list[Subscription]:
    return [Subscription(*row) for row in conn.execute(_SUBSCRIPTIONS)]


def head(conn: psycopg.Connection) -> int:
    """The position of the last event."""
    row = conn.execute(f"SELECT {HEAD}", prepare=True).fetchone()
    return int(row[0]) if row else 0


def still_for(conn: psycopg.Connection, name: str, age: timedelta) -> bool:
    """Whether a subscription's checkpoint has not moved for so long."""
    row = conn.execute(_STILL_FOR, (age, name)).fetchone()
    return bool(row and row[0])


def subscription(conn: psycopg.Connection, name: str, *, lock: bool = False) -> Subscription | None:
    """The subscription with this name. With `lock`, its checkpoint cannot move until this
    transaction ends."""
    found = conn.execute(_SUBSCRIPTION_LOCKED if lock else _SUBSCRIPTION, (name,)).fetchone()
    return Subscription(*found) if found else None


def move(conn: psycopg.Connection, moves: Sequence[tuple[str, int, int]]) -> None:
    """Compare and set checkpoints: (feed, from, to). Raises CheckpointMoved, which must roll back
    the transaction.

    Both positions must exist in the log as it is, and `from` must still be the same event.
    """
    if conn.execute(_MOVE, _columns(moves), prepare=True).rowcount != len(moves):
        raise CheckpointMoved(", ".join(m[0] for m in moves))


def move_free(conn: psycopg.Connection, moves: Sequence[tuple[str, int, int]]) -> set[str]:
    """As `move`, but leaves out those that another transaction holds, and returns which were moved.
    Raises CheckpointMoved after it has moved the others."""
    free: dict[str, bool] = dict(conn.execute(_MOVE_FREE, _columns(moves), prepare=True).fetchall())
    if lost := [name for name, moved in free.items() if not moved]:
        raise CheckpointMoved(", ".join(lost))
    return set(free)


def _columns(moves: Sequence[tuple[str, int, int]]) -> dict[str, list[object]]:
    return {name: [m[n] for m in moves] for n, name in enumerate(("feeds", "olds", "news"))}


def try_lead(conn: psycopg.Connection, name: str) -> bool:
    """Try to become the one process that runs this subscription, for as long as this connection
    lives.

    Raises OutdatedRelease: a newer release may lead more than this one knows.
    """
    require_current(conn)
    row = conn.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (LEAD, name)).fetchone()
    return bool(row and row[0])


def stop_leading(conn: psycopg.Connection, name: str) -> None:
    """Release the lead of this subscription."""
    conn.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", (LEAD, name))


def take_part(conn: psycopg.Connection, projection: str) -> None:
    """Mark this connection as one that fills a storage for the process that rebuilds."""
    conn.execute(
        "SELECT pg_advisory_lock_shared(%s, hashtext(%s))", (LEAD, f"part of {projection}")
    )


def has_parts(conn: psycopg.Connection, projection: str) -> bool:
    """Whether a connection still fills a storage, perhaps for a process that died."""
    if not try_lead(conn, f"part of {projection}"):
        return True
    stop_leading(conn, f"part of {projection}")
    return False


def idle_leaders(conn: psycopg.Connection, names: Sequence[str]) -> list[tuple[int, datetime]]:
    """The sessions that lead any of these and are not executing a statement: process ids, and since
    when."""
    with conn.transaction():
        conn.execute("SET LOCAL ROLE NONE")  # as the login user: the server shows less to others
        return [(int(pid), changed) for pid, changed in conn.execute(_IDLE_LEADERS, (list(names),))]


def end_session(conn: psycopg.Connection, pid: int, quiet_since: datetime) -> bool:
    """Terminate a session if it has been idle since then. Returns whether it was."""
    with conn.transaction():
        conn.execute("SET LOCAL ROLE NONE")
        row = conn.execute(_END_SESSION, (pid, quiet_since)).fetchone()
    return bool(row and row[0])


def wake(conn: psycopg.Connection) -> None:
    """Make runners look at the subscriptions again."""
    conn.execute(f"NOTIFY {WAKE}")
