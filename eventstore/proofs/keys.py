"""The keys that sign checkpoints: the current one, and the public ones of before.

The key's secret is one of the program's (`eventstore.keys.secret`); public keys are in
`log.tree_keys`, with the size of the tree from which on each signs.
"""

import logging
from collections.abc import Sequence
from os import urandom

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from eventstore.keys import secret
from eventstore.proofs.notes import PublicKey, SigningKey

logger = logging.getLogger(__name__)

_KEYS = "SELECT number, public, since FROM log.tree_keys ORDER BY number"
_NEWEST = "SELECT coalesce(max(number), 0) FROM log.tree_keys"
_ADD = """
INSERT INTO log.tree_keys (number, public, since) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
"""


class KnownKey(msgspec.Struct, frozen=True):
    """A public key, and the sizes of the trees that it signs: from `since` to `until` (None: it is
    the current one)."""

    number: int
    key: PublicKey
    since: int
    until: int | None

    def may_sign(self, size: int) -> bool:
        return self.since <= size and (self.until is None or size <= self.until)


async def known_keys(conn: psycopg.AsyncConnection, origin: str) -> list[KnownKey]:
    """All keys that ever signed, the oldest first."""
    return _known(await (await conn.execute(_KEYS)).fetchall(), origin)


def known_keys_now(conn: psycopg.Connection, origin: str) -> list[KnownKey]:
    """As `known_keys`, for code that does not wait."""
    return _known(conn.execute(_KEYS).fetchall(), origin)


def _known(rows: Sequence[tuple[int, bytes, int]], origin: str) -> list[KnownKey]:
    ends = [*(since for _, _, since in rows[1:]), None]
    return [
        KnownKey(number, PublicKey(origin, public), since, until)
        for (number, public, since), until in zip(rows, ends, strict=False)
    ]


class SigningKeys(msgspec.Struct, frozen=True):
    """The key that signs now and its number; and the one before, if its secret is there: it vouches
    for the current one."""

    number: int
    current: SigningKey
    previous: SigningKey | None


async def signing_keys(pool: AsyncConnectionPool, origin: str) -> SigningKeys:
    """The keys to sign with. The first is made if there is none, and another one if the secret of
    the current one was lost."""
    async with pool.connection() as conn:
        known = await known_keys(conn, origin)
    if not known:
        return SigningKeys(1, await add_key(pool, origin, 1, since=0), None)
    last = known[-1]
    key = await _key(pool, origin, last.number)
    if key.public != last.key:
        logger.error(
            "the secret of the key that signs checkpoints was lost: another key signs from now on"
        )
        await add_key(pool, origin, last.number + 1, since=last.since)
        return await signing_keys(pool, origin)
    before = await _key(pool, origin, last.number - 1) if len(known) > 1 else None
    vouches = before is not None and before.public == known[-2].key
    return SigningKeys(last.number, key, before if vouches else None)


async def newest(conn: psycopg.AsyncConnection) -> int:
    """The number of the newest key, 0 when there is none."""
    row = await (await conn.execute(_NEWEST)).fetchone()
    return int(row[0]) if row else 0


async def add_key(pool: AsyncConnectionPool, origin: str, number: int, since: int) -> SigningKey:
    """Make the key with this number, which signs trees from the size `since` on; the one of another
    process if that was faster."""
    key = await _key(pool, origin, number)
    async with pool.connection() as conn:
        await conn.execute(_ADD, (number, key.public.public, since))
    return key


async def _key(pool: AsyncConnectionPool, origin: str, number: int) -> SigningKey:
    return SigningKey(origin, await secret(pool, f"checkpoint_key_{number}", lambda: urandom(32)))
