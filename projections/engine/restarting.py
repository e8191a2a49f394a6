"""Subscriptions of read models whose log went back: they begin anew, in storages of their own."""

import logging
from typing import Any

import psycopg

from eventstore.consumers import checkpoints
from eventstore.consumers.histories import note_astray
from projections.engine import dropping
from projections.engine.store import Store

logger = logging.getLogger(__name__)

_EPOCH = "SELECT id FROM log.epochs ORDER BY number DESC LIMIT 1"

_SET_EPOCH = "UPDATE consumers.feeds SET epoch = %s WHERE feed = %s"

_REPLACE_STORAGE = f"""
UPDATE consumers.feeds
SET storage = %s, active = false, amended = 0,
    ready_at = CASE WHEN active OR ready_at IS NOT NULL THEN {checkpoints.HEAD} END
WHERE feed = %s
"""

_RESET_CHECKPOINT = """
UPDATE consumers.checkpoints SET position = 0, event_id = NULL, updated_at = clock_timestamp()
WHERE feed = %s
"""

_EMPTY_QUARANTINE = "DELETE FROM consumers.quarantine WHERE feed = %s"


def begin_anew_if_astray(
    conn: psycopg.Connection, store: Store[Any], row: checkpoints.Subscription
) -> checkpoints.Subscription:
    """Restart a subscription, before it is led, if it followed another history of the log: from the
    start, in a storage still to be created. The old storage is dropped, or, while somebody reads
    it, left as those of rebuilds. Returns the subscription as it is then. Raises CheckpointMoved,
    and what the store raises.
    """
    if row.astray or _is_of_another(conn, store, row.storage):
        logger.error("feed %s begins anew: it followed another history of the log", row.name)
        note_astray(conn, row.name)  # in a transaction of its own: appends wait while it lasts
        epoch = _epoch(conn)
        old = f"{row.name}.before_{epoch}"
        with conn.transaction():
            # Under another name, so that a writer to the old storage, at a server that does not
            # know of this, does no harm.
            _begin_anew(conn, row.name, f"{row.name.replace('.', '_')}_{epoch}")
            checkpoints.add_building(conn, old, row.projection, row.version, row.storage, 0)
        dropping.drop(conn, store, old)
    elif row.examined:
        return row
    conn.execute(_SET_EPOCH, (_epoch(conn), row.name))
    found = checkpoints.subscription(conn, row.name)
    if found is None:
        raise checkpoints.CheckpointMoved(row.name)
    return found


def _is_of_another(conn: psycopg.Connection, store: Store[Any], storage: str) -> bool:
    return (
        not store.transactional and store.exists(conn, storage) and not store.follows(conn, storage)
    )


def _epoch(conn: psycopg.Connection) -> str:
    row = conn.execute(_EPOCH).fetchone()
    return str(row[0]) if row else ""


def _begin_anew(conn: psycopg.Connection, name: str, storage: str) -> None:
    conn.execute(_REPLACE_STORAGE, (storage, name))
    conn.execute(_RESET_CHECKPOINT, (name,))
    conn.execute(_EMPTY_QUARANTINE, (name,))
