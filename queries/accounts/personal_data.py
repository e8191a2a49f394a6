"""Which master keys wrap the keys of persons, and which forgotten persons are still on the disk."""

from datetime import datetime
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from eventstore.rewrapping import MASTER_KEYS, PLAIN, WRAPPED_BY
from projections.engine.erasing import WAITING


class MasterKey(msgspec.Struct, frozen=True):
    """A master key that the shop has used, and how many keys and secrets it wraps."""

    id: str
    current: bool
    since: datetime
    wraps: int


class ToBeErased(msgspec.Struct, frozen=True):
    """A forgotten person who is on the disk still; the id is nil for keys that were stored
    unwrapped."""

    user_id: UUID
    since: datetime


class PersonalData(msgspec.Struct, frozen=True):
    """How the shop stores personal data."""

    master_keys: list[MasterKey]
    unwrapped: int
    to_be_erased: list[ToBeErased]


async def personal_data(pool: AsyncConnectionPool) -> PersonalData:
    """The master keys, the latest last; how many keys and secrets none of them wraps; and who is
    to be erased, the longest waiting first. Reads every key's row."""
    async with pool.connection() as conn, conn.transaction():
        counts: dict[bytes | None, int] = dict(
            await (await conn.execute(WRAPPED_BY, PLAIN)).fetchall()
        )
        keys = await (await conn.execute(MASTER_KEYS)).fetchall()
        waiting = await (await conn.execute(WAITING)).fetchall()
    return PersonalData(
        [
            MasterKey(key_id.hex(), is_current, since, counts.get(key_id, 0))
            for key_id, is_current, since in keys
        ],
        counts.get(None, 0),
        [ToBeErased(*row) for row in waiting],
    )
