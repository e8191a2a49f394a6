"""Begins the use of master keys, replaces the current one, and wraps anew what others wrap.

The current master key is a row of private.master_keys. Processes insert nothing that another one
wraps (`eventstore.keys`). So once the current one is another, and whoever was inserting has ended,
what others wrap only becomes less: one pass over the tables wraps all of it anew. A pass may be
killed and begun again, and several may run at once: a row is only changed if it is as it was read.

All functions need a connection of the tables' owner, in autocommit mode.
"""

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import psycopg

from eventstore.database import locks
from eventstore.master_keys import (
    ID_BYTES,
    KEYRING,
    PREFIX,
    of_person,
    of_secret,
    wrapped_by,
)

BATCH = 1_000
"""Keys per statement: some 20 ms, for which their rows are locked."""

_INDEX_PREFIX = "index_prefix"
"""What the table of secrets has that is none: wrapped by nobody."""

PLAIN = {"prefix": PREFIX, "plain": _INDEX_PREFIX}
"""The parameters of WRAPPED_BY."""

NOBODY = UUID(int=0)
"""Stands in private.erasures for keys and secrets that were stored unwrapped."""

Progress = Callable[[int], object]
"""Told how many keys were wrapped anew so far."""

_NEXT_PERSONS = """
SELECT person_id, key FROM private.person_keys
WHERE person_id > %s ORDER BY person_id LIMIT %s
"""
_PUT_PERSONS = """
UPDATE private.person_keys k SET key = made.key
FROM unnest(%s::uuid[], %s::bytea[], %s::bytea[]) AS made (person_id, before, key)
WHERE k.person_id = made.person_id AND k.key = made.before
"""
_SECRETS = "SELECT name, value FROM private.secrets WHERE name <> %s ORDER BY name"
_PUT_SECRET = "UPDATE private.secrets SET value = %s WHERE name = %s AND value = %s"  # noqa: S105

_ERASE_UNWRAPPED = """
INSERT INTO private.erasures (person_id, position) VALUES (%s, 0) ON CONFLICT DO NOTHING
"""

WRAPPED_BY = f"""
SELECT CASE WHEN substring(key for {len(PREFIX)}) = %(prefix)s
    THEN substring(key from {len(PREFIX) + 1} for {ID_BYTES}) END AS key_id, count(*)
FROM (
    SELECT key FROM private.person_keys
    UNION ALL SELECT value FROM private.secrets WHERE name <> %(plain)s
) AS stored GROUP BY 1
"""
_HAS_UNWRAPPED = f"""
SELECT EXISTS (
    SELECT FROM private.person_keys WHERE substring(key for {len(PREFIX)}) <> %(prefix)s
) OR EXISTS (
    SELECT FROM private.secrets
    WHERE substring(value for {len(PREFIX)}) <> %(prefix)s AND name <> %(plain)s
)"""


MASTER_KEYS = """
SELECT key_id, is_current, began_at FROM private.master_keys ORDER BY is_current, began_at
"""


class MasterKeyState(NamedTuple):
    """A master key that the shop has used, and how many keys and secrets it wraps."""

    key_id: bytes
    is_current: bool
    began_at: datetime
    wraps: int


def current(conn: psycopg.Connection) -> bytes | None:
    """The id of the current master key; None while there is none."""
    row = conn.execute("SELECT key_id FROM private.master_keys WHERE is_current").fetchone()
    return None if row is None else bytes(row[0])


def is_new(conn: psycopg.Connection) -> bool:
    """Whether no process of any release has used the database yet: each makes secrets."""
    row = conn.execute("SELECT NOT EXISTS (SELECT FROM private.secrets)").fetchone()
    return bool(row and row[0])


def has_unwrapped(conn: psycopg.Connection) -> bool:
    """Whether a key or secret is stored as it is."""
    row = conn.execute(_HAS_UNWRAPPED, PLAIN).fetchone()
    return bool(row and row[0])


def begin(conn: psycopg.Connection, choose: Callable[[bytes | None], bytes | None]) -> bool:
    """Make a master key the current one: that whose id `choose` returns for the id of the current
    one, or none. Others that do so wait meanwhile. Returns whether the current one is another now.

    On return nobody inserts what another master key wraps.
    """
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(%s, %s)", locks.MASTER_KEY)
        before = current(conn)
        chosen = choose(before)
        if chosen is None or chosen == before:
            return False
        conn.execute("UPDATE private.master_keys SET is_current = false WHERE is_current")
        conn.execute(
            "INSERT INTO private.master_keys (key_id, is_current) VALUES (%s, true)"
            " ON CONFLICT (key_id) DO UPDATE SET is_current = true, began_at = clock_timestamp()",
            (chosen,),
        )
    return True


def rewrap(conn: psycopg.Connection, progress: Progress = lambda _: None) -> int:
    """Wrap by the current master key whatever it does not wrap yet. Returns how much that was.
    Raises MasterKeyMissing.

    What was stored unwrapped is then still in dead rows, to be erased as the keys of the forgotten
    are.
    """
    _await_inserts(conn)
    key_id = current(conn)
    if has_unwrapped(conn):
        conn.execute(_ERASE_UNWRAPPED, (NOBODY,))
    done, last = 0, NOBODY
    while page := conn.execute(_NEXT_PERSONS, (last, BATCH)).fetchall():
        last = page[-1][0]
        due = [
            (person_id, before, _anew(before, key_id, of_person(person_id)))
            for person_id, before in page
            if wrapped_by(before) != key_id
        ]
        if due:
            done += conn.execute(
                _PUT_PERSONS, [list(each) for each in zip(*due, strict=True)]
            ).rowcount
            progress(done)
    for name, before in conn.execute(_SECRETS, (_INDEX_PREFIX,)).fetchall():
        if wrapped_by(before) != key_id:
            value = _anew(before, key_id, of_secret(name))
            done += conn.execute(_PUT_SECRET, (value, name, before)).rowcount
    return done


def states(conn: psycopg.Connection) -> tuple[list[MasterKeyState], int]:
    """The master keys that the shop has used, the latest last, and how many keys and secrets are
    stored as they are."""
    counts: dict[bytes | None, int] = dict(conn.execute(WRAPPED_BY, PLAIN).fetchall())
    rows = conn.execute(MASTER_KEYS).fetchall()
    found = [
        MasterKeyState(key_id, is_current, began_at, counts.get(key_id, 0))
        for key_id, is_current, began_at in rows
    ]
    return found, counts.get(None, 0)


def _anew(stored: bytes, key_id: bytes | None, bound_to: bytes) -> bytes:
    return KEYRING.wrap(KEYRING.unwrap(stored, bound_to), key_id, bound_to)


def _await_inserts(conn: psycopg.Connection) -> None:
    """Wait for transactions that may have inserted what an earlier master key wraps; those that
    insert from now on see which one is current."""
    with conn.transaction():
        conn.execute("LOCK TABLE private.person_keys, private.secrets IN SHARE MODE")
