"""Signs checkpoints: verifies what was appended since the last one, extends the stored tree, and
signs its root. Any process may; a lock lets one at a time."""

import logging
from collections.abc import Callable

import psycopg

from eventstore.chain import ChainVerifier
from eventstore.postgres_log import PostgresLog
from eventstore.proofs import heads, tree
from eventstore.proofs.frontier import Frontier
from eventstore.proofs.heads import Head, LogChanged
from eventstore.proofs.keys import SigningKeys, add_key, newest, signing_keys
from eventstore.proofs.notes import Checkpoint, SigningKey, parse, sign
from eventstore.proofs.origin import origin
from eventstore.proofs.walking import Walk, stray

logger = logging.getLogger(__name__)

_LOCK = "SELECT pg_advisory_xact_lock(4910, 3)"
_END = "SELECT coalesce(max(position), 0) FROM log.events"


class NothingToSign(Exception):
    """The log has no event yet."""


Progress = Callable[[int, int], None]
"""Called with the position that was verified, and the one to get to."""


def _silent(_done: int, _total: int) -> None:
    """Report nothing."""


async def sign_checkpoint(log: PostgresLog, progress: Progress = _silent) -> Head:
    """Sign the log as it is now. Returns the last checkpoint if nothing was appended since.

    Raises NothingToSign; LogChanged when the log is not what was signed, or does not fit its chain;
    psycopg.Error.
    """
    return await _sign(log, progress, again=False)


async def rotate_key(log: PostgresLog) -> Head:
    """Have another key sign from now on. Signs a checkpoint with both, by which whoever trusts the
    old key knows the new one. Raises as `sign_checkpoint`."""
    last = await sign_checkpoint(log)
    name = await _origin(log)
    now = await signing_keys(log.pool, name)
    await add_key(log.pool, name, now.number + 1, since=last.size)
    return await _sign(log, _silent, again=True)


async def rebuild_tree(log: PostgresLog, progress: Progress = _silent) -> int:
    """Compute the stored tree anew, up to the last checkpoint. Returns its size. Raises LogChanged
    when the log does not lead to that checkpoint's root; psycopg.Error."""
    async with log.pool.connection() as conn, conn.transaction():
        await conn.execute(_LOCK)
        last = await _last(conn)
        await tree.cut(conn, 0)
        if last is None:
            return 0
        rebuilt = await _extend(conn, Frontier(), ChainVerifier(), last.size, progress)
        _must_lead_to(rebuilt, last)
        return last.size


async def _origin(log: PostgresLog) -> str:
    async with log.pool.connection() as conn:
        name = await origin(conn)
    if name is None:
        raise NothingToSign("the log has no event yet: there is nothing to sign")
    return name


async def _sign(log: PostgresLog, progress: Progress, *, again: bool) -> Head:
    """Sign; `again` also if nothing was appended."""
    name = await _origin(log)
    while True:
        keys = await signing_keys(log.pool, name)
        async with log.pool.connection() as conn, conn.transaction():
            await conn.execute(_LOCK)
            if await newest(conn) == keys.number:  # else it was rotated meanwhile
                return await _signed(conn, name, keys, progress, again=again)


async def _signed(
    conn: psycopg.AsyncConnection,
    name: str,
    keys: SigningKeys,
    progress: Progress,
    *,
    again: bool,
) -> Head:
    last = await _last(conn)
    row = await (await conn.execute(_END)).fetchone()
    size = row[0] if row else 0
    if last is not None and last.size == size and not again:
        return last
    edge = await _edge(conn, last, progress)
    verifier = ChainVerifier(last.size, last.hash) if last else ChainVerifier()
    edge = await _extend(conn, edge, verifier, size, progress)
    note = sign(Checkpoint(name, size, edge.root), _who_sign(keys, last))
    return await heads.add(conn, size, edge.root, verifier.hash, note)


def _who_sign(keys: SigningKeys, last: Head | None) -> list[SigningKey]:
    """The key; its first checkpoint is also signed by the one before, whatever came between its
    making and this."""
    has_signed = last is not None and keys.current.public.id in {
        line.key_id for line in parse(last.note).signatures
    }
    if has_signed or keys.previous is None:
        return [keys.current]
    return [keys.previous, keys.current]


async def _last(conn: psycopg.AsyncConnection) -> Head | None:
    """The last checkpoint whose events the log has. If it went back, those beyond are void, and the
    tree is cut."""
    last = await heads.latest(conn)
    if last is None or await heads.is_there(conn, last):
        return last
    await heads.void_astray(conn)
    logger.warning("signed checkpoints are void, as the log went back")
    last = await heads.latest(conn)
    await tree.cut(conn, last.size if last else 0)
    return last


async def _edge(conn: psycopg.AsyncConnection, last: Head | None, progress: Progress) -> Frontier:
    """The tree of the last checkpoint; computed anew if the stored one does not lead to its
    root."""
    if last is None:
        return Frontier()
    try:
        found = await tree.frontier(conn, last.size)
        if found.root == last.root:
            return found
    except tree.TreeDamaged:
        pass
    logger.error("the stored tree does not lead to what was signed: it is computed anew")
    await tree.cut(conn, 0)
    found = await _extend(conn, Frontier(), ChainVerifier(), last.size, progress)
    _must_lead_to(found, last)
    return found


def _must_lead_to(found: Frontier, last: Head) -> None:
    if found.root != last.root:
        raise LogChanged(
            f"the log's first {last.size} events do not lead to the root that was signed for them"
        )


async def _extend(
    conn: psycopg.AsyncConnection,
    edge: Frontier,
    verifier: ChainVerifier,
    size: int,
    progress: Progress,
) -> Frontier:
    """Verify the log up to this size, and add it to the tree."""
    if found := await stray(conn):
        raise LogChanged(f"at position {found.position} the log is {found.reason}")
    walk = Walk(verifier, size)
    cursor = conn.cursor(binary=True)
    while not walk.done:
        rows = await (await cursor.execute(*walk.query)).fetchall()
        if fault := walk.take(rows):
            raise LogChanged(f"at position {fault.position} the log is {fault.reason}")
        await tree.put(conn, edge.add(walk.hashes))
        progress(verifier.position, size)
    return edge
