"""The last looks at the invariants of the shop's audit of itself."""

from collections.abc import Collection, Mapping
from datetime import datetime

import msgspec
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

SAMPLE, WHOLE = "sample", "whole"

OF_THE_LOG = ("log_is_chained", "log_is_what_was_signed")
"""The invariants that tell whether the log was changed."""


class Look(msgspec.Struct, frozen=True):
    """The last look at an invariant. `scope` is `sample` or `whole`. It was at the positions
    `after` … `upto` when the log ended at `head`, took `seconds`, and looked at `checked` subjects,
    of which `violations` violated it and `unsettled` could not be judged yet. `failure` tells why
    it could not be looked at."""

    invariant: str
    scope: str
    meaning: str
    looked_at: datetime
    seconds: float
    head: int
    after: int
    upto: int
    settled: int
    checked: int
    violations: int
    unsettled: int
    failure: str


_LOOKS = f"SELECT {', '.join(Look.__struct_fields__)} FROM consumers.self_audit ORDER BY 1, 2"

_AGES = """
SELECT scope, extract(epoch FROM clock_timestamp() - min(looked_at))::float8
FROM consumers.self_audit GROUP BY scope
"""


async def looks(pool: AsyncConnectionPool) -> list[Look]:
    """The last looks, by invariant and scope; none before the first."""
    async with pool.connection() as conn, conn.cursor(row_factory=class_row(Look)) as cursor:
        await cursor.execute(_LOOKS.encode())
        return await cursor.fetchall()


async def violated(pool: AsyncConnectionPool, invariants: Collection[str]) -> list[Look]:
    """The last looks that found one of these invariants violated."""
    return [each for each in await looks(pool) if each.violations and each.invariant in invariants]


async def ages(pool: AsyncConnectionPool) -> Mapping[str, float]:
    """By scope, how many seconds ago the invariant was looked at that was looked at least
    lately."""
    async with pool.connection() as conn:
        return dict(await (await conn.execute(_AGES)).fetchall())
