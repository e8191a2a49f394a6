"""Puts archives into the log of a database: with COPY, in one transaction, all of it or nothing."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain

import msgspec
import psycopg

from eventstore.chain import GENESIS
from eventstore.database.locks import END_OF_LOG
from eventstore.head import APPENDED
from runtime.archive.checking import BINARY_END, BINARY_HEAD, COLUMNS, Checked
from runtime.archive.lines import ArchivedKey, ArchiveFault, Consumer
from runtime.archive.reading import Archive, Checkers, Part, check_joints

SESSION_SECONDS = 3
"""How long a session may take to end, once its connection was closed."""

LOCK_SECONDS = 20
"""How long to wait for others who append, or read an empty log."""

"""The lock at which appends queue (eventstore/sql/functions/append_v4.sql)."""

_MEMORY = "SET LOCAL work_mem = '64MB'; SET LOCAL maintenance_work_mem = '128MB'"

_END = "SELECT position, hash, recorded_at FROM log.events ORDER BY position DESC LIMIT 1"

_DROP_KEYS = """
ALTER TABLE log.events DROP CONSTRAINT events_pkey, DROP CONSTRAINT events_stream_id_version_key
"""
_ADD_KEYS = """
ALTER TABLE log.events ADD CONSTRAINT events_pkey PRIMARY KEY (position),
    ADD CONSTRAINT events_stream_id_version_key UNIQUE (stream_id, version)
"""

_ADD_KINDS = """
INSERT INTO log.event_kinds (name, kind) SELECT * FROM unnest(%s::text[], %s::text[])
ON CONFLICT DO NOTHING
"""
_OTHER_KINDS = """
SELECT g.name, g.kind, k.kind FROM unnest(%s::text[], %s::text[]) AS g(name, kind)
JOIN log.event_kinds k USING (name) WHERE k.kind <> g.kind LIMIT 1
"""

_WRONG_EVENT = """
SELECT e.position, e.stream_id, e.version, e.version_before, e.kind, e.kind_before, e.name
FROM (
    SELECT e.position, e.stream_id, e.version, e.kind, e.name,
        coalesce(e.version_before, p.version) AS version_before,
        coalesce(e.kind_before, p.kind) AS kind_before
    FROM (
        SELECT e.position, e.stream_id, e.version, e.name, k.kind,
            lag(e.version) OVER stream AS version_before, lag(k.kind) OVER stream AS kind_before
        FROM log.events e LEFT JOIN log.event_kinds k USING (name) WHERE e.position > %(after)s
        WINDOW stream AS (PARTITION BY e.stream_id ORDER BY e.position)
    ) e LEFT JOIN LATERAL (
        SELECT l.version, k.kind FROM log.events l LEFT JOIN log.event_kinds k USING (name)
        WHERE l.stream_id = e.stream_id AND l.version < e.version AND l.position <= %(after)s
            AND e.version_before IS NULL
        ORDER BY l.version DESC LIMIT 1
    ) p ON %(after)s > 0
    WHERE e.version_before IS DISTINCT FROM e.version - 1 OR e.kind IS DISTINCT FROM e.kind_before
) e
WHERE e.kind IS NULL OR e.kind <> e.kind_before
    OR e.version <> coalesce(e.version_before + 1, greatest(0, least(1, e.version)))
ORDER BY e.position LIMIT 1
"""
"""The first event that does not continue its stream, or is of another kind than it. A stream begins
at version 1; those of another library's applications may begin at 0."""

_USED_TWICE = """
SELECT max(position) AS last, event_id, min(position) FROM log.events
GROUP BY event_id HAVING count(*) > 1 AND max(position) > %s ORDER BY last LIMIT 1
"""

MAX_DAYS_AHEAD = 366
"""How far in the future an imported event may have been recorded."""

_FAR_AHEAD = """
SELECT position, to_char(recorded_at, 'YYYY-MM-DD') FROM log.events
WHERE position = %s AND recorded_at > clock_timestamp() + make_interval(days => %s)
"""

_PUT_EVENTS = f"COPY log.events ({COLUMNS}) FROM STDIN (FORMAT binary)"
_NEW_ONCES = """
CREATE TEMPORARY TABLE new_once (LIKE log.once INCLUDING CONSTRAINTS INCLUDING INDEXES)
ON COMMIT DROP
"""
_COPY_ONCES = """
COPY pg_temp.new_once (key, fingerprint, refs, position, expires_at) FROM STDIN
"""
_PUT_ONCES = """
INSERT INTO log.once (key, fingerprint, refs, position, expires_at)
SELECT key, fingerprint, refs, position, expires_at FROM pg_temp.new_once
ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, refs = excluded.refs,
    position = excluded.position, expires_at = excluded.expires_at, answer = NULL;
TRUNCATE pg_temp.new_once
"""
"""A key that had expired and was purged after an archive was written may have been used again, and
so be in the next one, too."""

_PUT_FEED = """
INSERT INTO consumers.feeds (feed, projection, version, active)
VALUES (%(feed)s, %(projection)s, %(version)s, true)
ON CONFLICT (feed) DO NOTHING
"""
_PUT_CHECKPOINT = """
INSERT INTO consumers.checkpoints (feed, position, event_id)
SELECT %(feed)s, %(position)s, (SELECT event_id FROM log.events WHERE position = %(position)s)
ON CONFLICT (feed) DO UPDATE SET position = excluded.position, event_id = excluded.event_id,
    updated_at = clock_timestamp()
WHERE checkpoints.position >= %(after)s
"""

_OTHER_SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name LIKE 'ludoteca%'
"""

Progress = Callable[[str, int, int], None]


class LogDoesNotFit(Exception):
    """The archives do not continue the database's log."""


class Loaded(msgspec.Struct, frozen=True):
    """How many events were put into the log, and where it ends now, with which hash."""

    events: int
    position: int
    hash: str


def check_unused(conn: psycopg.Connection) -> None:
    """Raises LogDoesNotFit while processes of a shop use the database. A session of which this
    process has just closed the connection is listed for a moment, so it is waited for."""
    patience = time.monotonic() + SESSION_SECONDS
    while (row := conn.execute(_OTHER_SESSIONS).fetchone()) and row[0]:
        if time.monotonic() > patience:
            raise LogDoesNotFit("processes of a shop use this database: stop them first")
        time.sleep(0.1)


def check_clock(conn: psycopg.Connection, archives: Sequence[Archive], loaded: Loaded) -> None:
    """Raises ArchiveFault if the last event was recorded in a far future: the log's time, which
    never runs backwards, would stand still until then. (A shop's own backup is restored anyway.)"""
    row = conn.execute(_FAR_AHEAD, (loaded.position, MAX_DAYS_AHEAD)).fetchone()
    if row is not None and loaded.events:
        reason = f"recorded on {row[1]}: the log's time would stand still until then"
        raise _fault_at(archives, row[0], reason)


def load(
    conn: psycopg.Connection,
    archives: Sequence[Archive],
    kinds: Mapping[str, str],
    checkers: Checkers,
    progress: Progress,
    *,
    upto: int | None = None,
    consumers: bool = True,
) -> Loaded:
    """Put archives into the log up to a position, in the transaction that the caller has begun as
    the owner of the tables, and will commit.

    The log must end where the first archive begins, with the same hash, and each archive where the
    next begins. Every event is checked: its hash, its position, that it continues its stream and is
    of the stream's kind, and that its id is no other event's. `kinds` are those of the program's
    events. Appends wait meanwhile, for their patience; an empty log is locked for readers, too, as
    its indices are made afterwards. Without `consumers`, those that act stay where they are.

    Raises ArchiveFault, LogDoesNotFit, OSError, psycopg.Error.
    """
    conn.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'".encode())
    conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", END_OF_LOG)
    conn.execute(_MEMORY)
    check_joints(archives)
    start, time = _check_end(conn, archives[0])
    last = archives[-1].header.position if upto is None else upto
    _register_kinds(conn, kinds, archives)
    if start == 0:
        conn.execute(_DROP_KEYS)
    conn.execute(_NEW_ONCES)
    found: list[tuple[Archive, Consumer]] = []
    position, digest = start, archives[0].header.after_hash
    for archive in archives:
        if archive.header.after >= last:
            break
        for part in _put(conn, archive, archive.read(checkers, time, last)):
            if isinstance(part, Consumer):
                found.append((archive, part))
            else:
                position, digest, time = part.position, part.hash.hex(), part.recorded_at
                progress("events imported", position - start, last - start)
    progress("streams checked", 0, position - start)
    _check_streams(conn, archives, start)
    _check_ids(conn, archives, start)
    if start == 0:
        conn.execute(_ADD_KEYS)
    progress("streams checked", position - start, position - start)
    for archive, consumer in found if consumers else ():
        _put_consumer(conn, archive, consumer)
    conn.execute("ANALYZE log.events, log.once")
    conn.execute("SELECT pg_notify(%s, %s)", (APPENDED, str(position)))
    return Loaded(position - start, position, digest)


def _check_end(conn: psycopg.Connection, archive: Archive) -> tuple[int, datetime | None]:
    """Check that the log ends where the archive begins. Returns the position and time there."""
    if conn.execute("SELECT FROM log.mirror").fetchone() is not None:
        raise LogDoesNotFit(
            "this database mirrors KurrentDB: import into another one, and copy that into an empty"
            " KurrentDB"
        )
    row = conn.execute(_END).fetchone()
    position, digest, time = row or (0, GENESIS, None)
    header = archive.header
    if position != header.after:
        raise LogDoesNotFit(
            f"{archive.path} begins after position {header.after}, and the log ends at {position}"
        )
    if digest.hex() != header.after_hash:
        raise LogDoesNotFit(
            f"{archive.path} continues another log: at position {position} that has the hash"
            f" {header.after_hash}, and this one {digest.hex()}"
        )
    return position, time


def _register_kinds(
    conn: psycopg.Connection, kinds: Mapping[str, str], archives: Sequence[Archive]
) -> None:
    """Tell the log the kinds of streams, those of the program first."""
    conn.execute(_ADD_KINDS, (list(kinds), list(kinds.values())))
    for archive in archives:
        given = (list(archive.header.kinds), list(archive.header.kinds.values()))
        conn.execute(_ADD_KINDS, given)
        if row := conn.execute(_OTHER_KINDS, given).fetchone():
            name, there, here = row
            raise ArchiveFault(archive.path, f"{name} is of kind {there} there, and {here} here", 1)


def _put(
    conn: psycopg.Connection, archive: Archive, parts: Iterator[Part]
) -> Iterator[Checked | Consumer]:
    """Put an archive's events and keys into their tables. Yields each block of events once it is
    there, and the consumers."""
    after: Iterator[Part] = iter(())
    with _refused(archive, 1), conn.cursor().copy(_PUT_EVENTS) as copy:
        copy.write(BINARY_HEAD)
        for part in parts:
            if not isinstance(part, Checked):
                after = chain([part], parts)
                break
            copy.write(part.rows)
            yield part
        copy.write(BINARY_END)
    consumers: list[Consumer] = []
    with _refused(archive, archive.header.events + 1), conn.cursor().copy(_COPY_ONCES) as copy:
        for part in after:
            if isinstance(part, ArchivedKey):
                fingerprint = bytes.fromhex(part.fingerprint)
                row = (part.key, fingerprint, part.refs, part.position, part.expires_at)
                copy.write_row(row)
            elif isinstance(part, Consumer):
                consumers.append(part)
    conn.execute(_PUT_ONCES)
    yield from consumers


@contextmanager
def _refused(archive: Archive, line: int) -> Iterator[None]:
    """Name the line that the database refused; the first row is that of the line after `line`."""
    try:
        yield
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        # as in "COPY events, line 5"
        found = re.search(r"(\d+)", error.diag.context or "")
        row = int(found[1]) if found else None
        position = archive.header.after + row if row and row <= archive.header.events else None
        said = error.diag.message_primary or str(error)
        reason = f"{said} {error.diag.message_detail or ''}".strip()
        raise ArchiveFault(archive.path, reason, row and line + row, position) from error


def _check_streams(conn: psycopg.Connection, archives: Sequence[Archive], start: int) -> None:
    row = conn.execute(_WRONG_EVENT, {"after": start}).fetchone()
    if row is None:
        return
    position, stream_id, version, version_before, kind, kind_before, name = row
    if kind is None:
        reason = f"{name} is no event that this release knows"
    elif kind_before not in (None, kind):
        reason = f"{name} is of kind {kind}, and its stream {stream_id} of kind {kind_before}"
    else:
        reason = f"version {version} of the stream {stream_id}, which is at {version_before or 0}"
    raise _fault_at(archives, position, reason)


def _check_ids(conn: psycopg.Connection, archives: Sequence[Archive], start: int) -> None:
    if (row := conn.execute(_USED_TWICE, (start,)).fetchone()) is not None:
        position, event_id, first = row
        raise _fault_at(archives, position, f"the event {event_id} is also at position {first}")


def _fault_at(archives: Sequence[Archive], position: int, reason: str) -> ArchiveFault:
    archive = next(each for each in archives if position <= each.header.position)
    return ArchiveFault(archive.path, reason, position - archive.header.after + 1, position)


def _put_consumer(conn: psycopg.Connection, archive: Archive, consumer: Consumer) -> None:
    """Let a consumer go on from where it was, unless it has not got here to where the archive
    begins."""
    values = {"after": archive.header.after, **msgspec.structs.asdict(consumer)}
    conn.execute(_PUT_FEED, values)
    conn.execute(_PUT_CHECKPOINT, values)
