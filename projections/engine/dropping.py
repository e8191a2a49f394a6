"""Drops subscriptions that nobody reads, with their storages: those left by rebuilds and by other
versions."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import msgspec
import psycopg
from psycopg import sql

from eventstore.consumers import checkpoints
from projections.engine.advancing import Registered
from projections.search.postgres_index import keys_table

logger = logging.getLogger(__name__)

DROP_TIMEOUT = "100ms"
"""How long a drop waits for readers of the storage. New readers wait behind it as long."""

LET_GO_TIMEOUT_SECONDS = 3.0
"""How long a drop waits for the projector to let go of the subscription."""

Models = Mapping[str, Registered]
"""This program's projections by name."""


class Busy(Exception):
    """Another process rebuilds this projection."""


class InUse(Exception):
    """The storage is read or fed; the message says by whom."""


class Dropped(msgspec.Struct, frozen=True):
    """A subscription and its storage. `dropped` is False while somebody still reads the storage;
    `feed` is None for a storage without a subscription."""

    feed: str | None
    storage: str
    dropped: bool


class Dropper(Protocol):
    """Drops storages."""

    def drop(self, conn: psycopg.Connection, storage: str) -> None:
        """Remove the storage."""
        ...


class FormerTables:
    """The tables of projections that this program no longer has."""

    def drop(self, conn: psycopg.Connection, storage: str) -> None:
        """Drop the table, and its table of keys if there is one."""
        for name in (keys_table(storage), storage):
            conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier("read", name)))


def matching(conn: psycopg.Connection, name: str) -> list[checkpoints.Subscription]:
    """The subscriptions of read models with this name: of a projection, of one of its versions
    (`orders.1`), or of one storage (`orders.1.r2`)."""
    return [
        row
        for row in checkpoints.subscriptions(conn)
        if row.storage and name in (row.projection, f"{row.projection}.{row.version}", row.name)
    ]


def unused(conn: psycopg.Connection, models: Models) -> list[checkpoints.Subscription]:
    """The subscriptions that nothing needs: of older versions, of former projections, of rebuilds
    that died."""
    return [
        row
        for row in checkpoints.subscriptions(conn)
        if row.storage and (row.building or _is_old(row, models))
    ]


def drop_all(
    conn: psycopg.Connection, models: Models, rows: list[checkpoints.Subscription]
) -> list[Dropped]:
    """Drop the subscriptions that are not in use. Raises InUse when all of them are, Busy while
    their projection is rebuilt."""
    done: list[Dropped] = []
    kept: list[str] = []
    for row in rows:
        with exclusively(conn, row.projection):
            reason = _in_use(conn, row, models)
            if reason:
                kept.append(f"{row.name} {reason}")
                continue
            known = models.get(row.projection)
            store = known.store if known else FormerTables()
            done.append(Dropped(row.name, row.storage, drop(conn, store, row.name, active=True)))
    if kept and not done:
        raise InUse("; ".join(kept))
    return done


def left_behind(conn: psycopg.Connection, models: Models) -> list[tuple[str, str]]:
    """Projections and storages that no subscription names: the database, with its subscriptions,
    went back to an earlier moment, and storages outside it did not. Raises StoreFailed."""
    found = [(name, storage) for name, each in models.items() for storage in each.store.storages()]
    # looked up after the storages, since a subscription exists before its storage does
    named = {row.storage for row in checkpoints.subscriptions(conn)}
    return [(name, storage) for name, storage in found if storage not in named]


def drop_left_behind(conn: psycopg.Connection, models: Models) -> list[Dropped]:
    """Drop the storages that no subscription names. Raises Busy, StoreFailed."""
    done = []
    for name, storage in left_behind(conn, models):
        with exclusively(conn, name):
            models[name].store.drop(conn, storage)
        done.append(Dropped(None, storage, dropped=True))
    return done


def drop(conn: psycopg.Connection, store: Dropper, name: str, *, active: bool = False) -> bool:
    """Drop a subscription and its storage; an active one only with `active`.

    Returns False when somebody reads the storage: it is no longer fed, and the next rebuild or
    `drop` drops it.
    """
    row = checkpoints.subscription(conn, name)
    if row is None or not checkpoints.retire(conn, name, active=active):
        return True
    _await_letting_go(conn, name)
    try:
        with conn.transaction():
            conn.execute(f"SET LOCAL lock_timeout = '{DROP_TIMEOUT}'")
            checkpoints.remove(conn, name)
            store.drop(conn, row.storage)
    except psycopg.errors.LockNotAvailable:
        logger.warning("%s is read by somebody: it is dropped later", row.storage)
        return False
    return True


@contextmanager
def exclusively(conn: psycopg.Connection, projection: str) -> Iterator[None]:
    """Keep others from building or dropping storages of a projection. Raises Busy."""
    if not checkpoints.try_lead(conn, f"rebuild {projection}"):
        raise Busy(f"{projection} is being rebuilt by another process")
    try:
        await_parts(conn, projection)
        yield
    finally:
        if not conn.closed:
            checkpoints.stop_leading(conn, f"rebuild {projection}")


def is_being_rebuilt(conn: psycopg.Connection, projection: str) -> bool:
    """Whether a process builds or drops storages of a projection."""
    if not checkpoints.try_lead(conn, f"rebuild {projection}"):
        return True
    checkpoints.stop_leading(conn, f"rebuild {projection}")
    return False


def await_parts(conn: psycopg.Connection, projection: str) -> None:
    """Wait for the processes that a rebuild had started, if it died before them: they might write
    into a new storage of the same name. Raises Busy."""
    deadline = time.monotonic() + LET_GO_TIMEOUT_SECONDS
    while checkpoints.has_parts(conn, projection):
        if time.monotonic() > deadline:
            raise Busy(f"{projection}: a rebuild that died has not ended yet, try again")
        time.sleep(0.02)


def _in_use(conn: psycopg.Connection, row: checkpoints.Subscription, models: Models) -> str:
    """Why the subscription may not be dropped; empty if it may."""
    known = models.get(row.projection)
    if known is not None and known.projection.version == row.version:
        return (
            "is read by queries"
            if row.active
            else "catches up, to be read"
            if row.ready_at is not None
            else ""
        )
    if not checkpoints.try_lead(conn, row.name):
        return "is fed by a projector of another release"
    checkpoints.stop_leading(conn, row.name)
    return ""


def _is_old(row: checkpoints.Subscription, models: Models) -> bool:
    known = models.get(row.projection)
    return known is None or row.version < known.projection.version


def _await_letting_go(conn: psycopg.Connection, name: str) -> None:
    """Wait for the projector to let go of a subscription; otherwise it would have to begin anew."""
    deadline = time.monotonic() + LET_GO_TIMEOUT_SECONDS
    while not checkpoints.try_lead(conn, name):
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)
    checkpoints.stop_leading(conn, name)
