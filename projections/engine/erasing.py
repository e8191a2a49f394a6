"""Erases from the disk what is left of forgotten persons.

Forgetting a person destroys their key, and folds their rows without the data. PostgreSQL keeps what
a row was: in the pages of the table until they are used again, and in the write-ahead log. So the
tables that have keys or personal data are written anew (VACUUM FULL), which leaves the old files to
the file system, and the write-ahead log is cut off behind a checkpoint. So it is for keys that were
stored unwrapped, once they are wrapped.

Until that is done the persons are in private.erasures. Something may be in the way: a read model
that has not come to their events yet, or a transaction that may still read the old rows. Then some
of them wait, and all of it is done again the next time.

What is left once this is done: write-ahead log that the server keeps for others (archives,
standbys, `wal_keep_size`), and backups (docs/privacy.md).
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql

from eventstore.codec import Codec
from eventstore.consumers import checkpoints
from eventstore.consumers.checkpoints import Subscription
from eventstore.rewrapping import NOBODY
from projections.engine import dropping, past, past_erasing
from projections.engine.advancing import Registered
from projections.engine.dropping import Busy, InUse, Models
from projections.engine.tables import SCHEMA
from projections.projection import personal_fields

LOCK_TIMEOUT = "1s"
"""How long writing a table anew waits for its readers. New readers wait behind it as long."""

TABLES = (("private", "person_keys"), ("private", "secrets"), ("private", "sessions"))
"""Tables beside the read models that show something of persons, or opens it."""

_STATISTICS = ("pg_catalog", "pg_statistic")
"""Has samples of columns, of tables that an older release made."""

_DUE = "SELECT person_id, position FROM private.erasures"
WAITING = "SELECT person_id, destroyed_at FROM private.erasures ORDER BY destroyed_at"
_DONE = """
DELETE FROM private.erasures e USING unnest(%s::uuid[], %s::bigint[]) AS done (person_id, position)
WHERE e.person_id = done.person_id AND e.position <= done.position
"""
_SESSIONS = "DELETE FROM private.sessions WHERE user_id = ANY (%s)"
_QUARANTINED = """
SELECT stream_id, feed FROM consumers.quarantine WHERE feed = ANY (%s) AND stream_id = ANY (%s)
"""
_TABLES_NAMED = """
SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename ~ %s ORDER BY 1
"""

OLD_SNAPSHOTS_SECONDS = 5.0
"""How long to wait for transactions that may still read the old rows; most take milliseconds."""

_LATER_THAN_ALL = "SELECT pg_current_xact_id()::xid::text"
_OLD_SNAPSHOTS = """
SELECT format('%%s (process %%s)', application_name, pid) FROM pg_stat_activity
WHERE pid <> pg_backend_pid() AND coalesce(datid, 0) IN (
    0, (SELECT oid FROM pg_database WHERE datname = current_database())
) AND greatest(age(backend_xmin), age(backend_xid)) > age(%(xid)s::xid)
UNION ALL SELECT format('the replication slot %%s', slot_name) FROM pg_replication_slots
WHERE age(xmin) > age(%(xid)s::xid)
UNION ALL SELECT format('the prepared transaction %%s', gid) FROM pg_prepared_xacts
WHERE database = current_database() AND age(transaction) > age(%(xid)s::xid)
UNION ALL SELECT format('%%s (process %%s), which only pg_read_all_stats may see', usename, pid)
FROM pg_stat_activity
WHERE datname = current_database() AND query = '<insufficient privilege>'
    AND backend_type = 'client backend'
"""
"""Who may still read rows that were dead before the transaction %(xid)s: VACUUM keeps these."""

_SWITCH = "SELECT pg_logical_emit_message(true, 'ludoteca', ''), pg_switch_wal()"
"""There is no switch from a file with nothing in it."""
_LAST_FILE = "SELECT max(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'"
_IS_IN_USE = "SELECT pg_walfile_name(pg_current_wal_insert_lsn()) <= %s"


class Erased(msgspec.Struct, frozen=True):
    """How many forgotten persons were erased, how many wait, and for what. `log_cut`: whether the
    write-ahead log was cut off, which the database's user may not be allowed to do."""

    persons: int
    waiting: int = 0
    reasons: tuple[str, ...] = ()
    log_cut: bool = True


def erase(conn: psycopg.Connection, codec: Codec, models: Models) -> Erased:
    """Erase the forgotten persons whom all read models have forgotten. The connection is of the
    tables' owner, in autocommit mode. Safe to repeat, and to stop at any moment."""
    due: dict[UUID, int] = dict(conn.execute(_DUE).fetchall())
    if not due:
        return Erased(0)
    personal = {name: each for name, each in models.items() if personal_fields(each.projection.row)}
    in_the_way = [*_drop_past(conn, codec, models), *_drop_unused(conn, models, personal)]
    left = dict(_still_shown(conn, personal, due))
    ready = {person: position for person, position in due.items() if person not in left}
    if ready and not in_the_way:
        conn.execute(_SESSIONS, (list(ready),))
        in_the_way = _old_snapshots(conn)
    cut = True
    if ready and not in_the_way:
        rewritten = [*_rows_of(conn, personal), *TABLES, _STATISTICS]
        in_the_way = [reason for table in rewritten for reason in _rewrite(conn, *table)]
        cut = _cut_log(conn)
    reasons = (*in_the_way, *dict.fromkeys(left.values()))
    if not ready or in_the_way:
        return Erased(0, len(due), reasons, cut)
    conn.execute(_DONE, (list(ready), list(ready.values())))
    return Erased(len(ready.keys() - {NOBODY}), len(left), reasons, cut)


class Waiting(msgspec.Struct, frozen=True):
    """A forgotten person who is not erased yet (or NOBODY), and when the key was destroyed."""

    person_id: UUID
    destroyed_at: datetime


def waiting(conn: psycopg.Connection) -> list[Waiting]:
    """Who is not erased yet, the longest waiting first."""
    return [Waiting(*row) for row in conn.execute(WAITING).fetchall()]


def _subscriptions(conn: psycopg.Connection, personal: Models) -> list[Subscription]:
    rows = checkpoints.subscriptions(conn)
    return [row for row in rows if row.storage and row.projection in personal]


def _drop_past(conn: psycopg.Connection, codec: Codec, models: Models) -> Iterable[str]:
    """Drop personal data as of past moments. Yields why some stays."""
    try:
        past_erasing.drop_personal(conn, codec, list(models.values()))
    except (past.BuiltElsewhere, past.ReadNow) as error:
        yield str(error)


def _drop_unused(conn: psycopg.Connection, models: Models, personal: Models) -> Iterable[str]:
    """Drop storages of personal data that nobody feeds, and that so forget nobody. Yields why some
    could not be dropped."""
    unused = [row for row in dropping.unused(conn, models) if row.projection in personal]
    for row in unused:
        try:
            dropped = dropping.drop_all(conn, models, [row])
        except (InUse, Busy) as error:
            yield str(error)
        else:
            if not all(each.dropped for each in dropped):
                yield f"{row.storage} is being read"


def _still_shown(
    conn: psycopg.Connection, personal: Models, due: Mapping[UUID, int]
) -> Iterable[tuple[UUID, str]]:
    """The persons of whom a read model may still have rows, and why."""
    rows = _subscriptions(conn, personal)
    for person, position in due.items():
        for row in rows:
            if row.position < position:
                yield person, f"{row.name} is at position {row.position} of {position}"
    feeds = [row.name for row in rows]
    for person, feed in conn.execute(_QUARANTINED, (feeds, list(due))).fetchall():
        yield person, f"{feed} has quarantined the account of a forgotten person"


def _rows_of(conn: psycopg.Connection, personal: Models) -> list[tuple[str, str]]:
    """The tables of the read models with personal data, in all storages. Those that no subscription
    names are dropped: they are of a history that was lost."""
    pattern = rf"^({'|'.join(personal)})_\d+(_|$)"
    found = [table for (table,) in conn.execute(_TABLES_NAMED, (SCHEMA, pattern)).fetchall()]
    # looked up after the tables, since a subscription exists before its table does
    named = {table for row in _subscriptions(conn, personal) for table in _tables(personal, row)}
    for table in found:
        if table not in named:
            conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(SCHEMA, table)))
    return [(SCHEMA, table) for table in found if table in named]


def _tables(personal: Mapping[str, Registered], row: Subscription) -> Sequence[str]:
    return personal[row.projection].store.tables(row.storage)


def _old_snapshots(conn: psycopg.Connection) -> list[str]:
    """Who may still read what has been deleted by now, after some patience."""
    row = conn.execute(_LATER_THAN_ALL).fetchone()
    assert row is not None
    deadline = time.monotonic() + OLD_SNAPSHOTS_SECONDS
    while found := conn.execute(_OLD_SNAPSHOTS, {"xid": row[0]}).fetchall():
        if time.monotonic() > deadline:
            return [f"the deleted rows may still be read by {reader}" for (reader,) in found]
        time.sleep(0.05)
    return []


def _rewrite(conn: psycopg.Connection, schema: str, table: str) -> Iterable[str]:
    """Write a table anew, without its dead rows. Yields why it was not."""
    told: list[psycopg.errors.Diagnostic] = []
    conn.add_notice_handler(told.append)
    try:
        conn.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'".encode())
        conn.execute(sql.SQL("VACUUM (FULL) {}").format(sql.Identifier(schema, table)))
    except psycopg.errors.LockNotAvailable:
        yield f"{schema}.{table} is being read"
    finally:
        conn.remove_notice_handler(told.append)
        conn.execute("SET lock_timeout = 0")
    # who may not do it gets a warning only
    if (schema, table) != _STATISTICS:
        yield from (each.message_primary or "" for each in told)


def _cut_log(conn: psycopg.Connection) -> bool:
    """Have the server remove, or overwrite, its write-ahead log up to now. Returns False if that is
    not allowed.

    A checkpoint gives the names of later files to some of those that it no longer needs. They keep
    what they have until the log comes to them: the rest of a file is filled with zeros when the log
    is switched to the next.
    """
    try:
        conn.execute(_SWITCH)
        conn.execute("CHECKPOINT")
        row = conn.execute(_LAST_FILE).fetchone()
        while row and conn.execute(_IS_IN_USE, row).fetchone() == (True,):
            conn.execute(_SWITCH)
        conn.execute("CHECKPOINT")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
