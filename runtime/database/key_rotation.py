"""Rotation of the master key: another one wraps all keys and secrets, while the shop runs."""

from os import urandom

import msgspec
import psycopg

from eventstore import rewrapping
from eventstore.master_keys import KEY_BYTES, KEYRING, MasterKeySource, id_of
from eventstore.rewrapping import Progress


class Rotated(msgspec.Struct, frozen=True):
    """What a rotation did: the ids (hex) of the current master key and of those that wrap nothing
    any more, and how many keys and secrets were wrapped anew. `continued`: an earlier rotation,
    which had not come to its end."""

    current: str
    rewrapped: int
    continued: bool
    unused: list[str]


def add_key(conn: psycopg.Connection, source: MasterKeySource) -> bytes:
    """The id of the master key for the next rotation: the last one at the source that the shop has
    not used yet, or a new one, which is added there. Raises OSError, ValueError."""
    used = {state.key_id for state in rewrapping.states(conn)[0]}
    waiting = [key for key in source.load() if id_of(key) not in used]
    if not waiting:
        waiting = [urandom(KEY_BYTES)]
        source.add(waiting[0])
    KEYRING.use(source)
    return id_of(waiting[-1])


def rotate(
    conn: psycopg.Connection, source: MasterKeySource, progress: Progress = lambda _: None
) -> Rotated:
    """Replace the master key, or complete a rotation that was stopped. It may be stopped at any
    moment, and run twice at once. The earlier master key stays at the source. Raises
    MasterKeyMissing, OSError, ValueError."""
    before = rewrapping.current(conn)
    continued = before is not None and _is_unfinished(conn)
    if not continued:
        # not if another rotation began meanwhile: that one is completed
        rewrapping.begin(conn, lambda now: add_key(conn, source) if now == before else None)
    count = rewrapping.rewrap(conn, progress)
    found, _ = rewrapping.states(conn)
    current = next(state.key_id for state in found if state.is_current)
    unused = [each.key_id.hex() for each in found if not each.is_current and not each.wraps]
    return Rotated(current.hex(), count, continued, unused)


def _is_unfinished(conn: psycopg.Connection) -> bool:
    found, unwrapped = rewrapping.states(conn)
    return unwrapped > 0 or any(state.wraps for state in found if not state.is_current)
