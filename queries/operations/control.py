"""What operators see of the consumers of the log, and the requests to them: pause, resume,
retry."""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

import msgspec
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from eventstore.consumers.checkpoints import ASTRAY, HEAD, SUBSCRIPTIONS, WAKE
from eventstore.consumers.quarantine import Quarantined
from projections.registry import read_models
from projections.search.projection import GamesIndex


class SubscriptionState(msgspec.Struct, frozen=True):
    """A consumer of the log. `lag` is how many positions it is behind `head`, `parked` how many
    streams it has in quarantine, `refused` how many of a reactor's commands a rule refused.

    Queries read the `active` subscription of a projection. Others are being built, are kept for a
    rollback, or catch up to `ready_at` before they are read. A subscription that this release does
    not feed (`fed`) stands still and has no lag: of another version, or in the hands of a rebuild.
    One that is `astray` followed another history of the log, so that the whole log lies ahead of
    it.
    """

    feed: str
    projection: str
    version: int
    storage: str
    position: int
    head: int
    lag: int | None
    fed: bool
    active: bool
    paused: bool
    building: bool
    ready_at: int | None
    parked: int
    refused: int
    astray: bool
    updated_at: datetime


_SUBSCRIPTIONS = f"""
SELECT
    feed, projection, version, storage, position, head, fed, astray, active, paused, building,
    ready_at, updated_at,
    CASE WHEN fed THEN CASE WHEN astray THEN head ELSE greatest(head - position, 0) END END AS lag,
    (SELECT count(*) FROM consumers.quarantine q WHERE q.feed = one.feed) AS parked,
    (SELECT count(*) FROM consumers.refusals r WHERE r.feed = one.feed) AS refused
FROM (
    SELECT
        f.*, c.position, c.updated_at, {ASTRAY} AS astray,
        NOT building AND (
            storage = '' OR (projection, version) IN (SELECT * FROM unnest(%s::text[], %s::int[]))
        ) AS fed
    FROM {SUBSCRIPTIONS}
) AS one, (SELECT {HEAD} AS head) AS log
ORDER BY feed
"""

_ASTRAY = f"""
SELECT DISTINCT projection FROM {SUBSCRIPTIONS} WHERE active AND {ASTRAY} ORDER BY projection
"""

_AGES = """
SELECT behind.position, extract(epoch FROM clock_timestamp() - next.recorded_at)::float8
FROM unnest(%s::bigint[]) AS behind (position), LATERAL (
    SELECT recorded_at FROM log.events e WHERE e.position > behind.position
    ORDER BY e.position LIMIT 1
) AS next
"""

_SET_PAUSED = "UPDATE consumers.feeds SET paused = %s WHERE projection = %s"

_RETRY = "UPDATE consumers.quarantine SET retry = true WHERE id = %s"

_QUARANTINE = """
SELECT id, feed, stream_id, position, name, error, since, attempts, retry
FROM consumers.quarantine WHERE %(feed)s::text IS NULL OR feed = %(feed)s
ORDER BY position, feed LIMIT %(limit)s
"""


_SELECTED = """
FROM consumers.quarantine
WHERE (%(feed)s::text IS NULL OR feed = %(feed)s) AND (%(name)s::text IS NULL OR name = %(name)s)
    AND strpos(lower(error), lower(%(error)s)) > 0 AND since < %(before)s
ORDER BY position, feed LIMIT %(limit)s
"""

_SELECT = f"SELECT id, feed, stream_id, position, name, error, since, attempts, retry {_SELECTED}"

_SELECT_LOCKED = f"SELECT id {_SELECTED} FOR UPDATE"

_RETRY_ALL = "UPDATE consumers.quarantine SET retry = true WHERE id = ANY (%s)"


class Selection(msgspec.Struct, frozen=True):
    """Streams that were in quarantine `before` a moment: of a subscription, because of events of a
    name, with an error that contains a text."""

    feed: str | None
    name: str | None
    error: str | None
    before: datetime


class Operations:
    """Subscriptions and quarantine, over connections of a pool (autocommit).

    `versions` are the versions of the projections that this program feeds, by default those of the
    registry.
    """

    def __init__(
        self, pool: AsyncConnectionPool, versions: Mapping[str, int] | None = None
    ) -> None:
        self._pool = pool
        known = {each.projection.name: each.projection.version for each in read_models()}
        self.versions: Mapping[str, int] = (
            {GamesIndex.name: GamesIndex.version, **known} if versions is None else dict(versions)
        )

    async def subscriptions(self) -> list[SubscriptionState]:
        """All consumers of the log, by name."""
        async with (
            self._pool.connection() as conn,
            conn.cursor(row_factory=class_row(SubscriptionState)) as cursor,
        ):
            await cursor.execute(
                _SUBSCRIPTIONS.encode(), [list(self.versions), list(self.versions.values())]
            )
            return await cursor.fetchall()

    async def ages(self, positions: Collection[int]) -> dict[int, float]:
        """How many seconds ago the next event after each position was appended. Leaves out
        positions at the end of the log."""
        async with self._pool.connection() as conn:
            found = await conn.execute(_AGES.encode(), [sorted(set(positions))])
            return dict(await found.fetchall())

    async def astray(self) -> list[str]:
        """The active consumers that followed another history of the log."""
        async with self._pool.connection() as conn:
            found = await conn.execute(_ASTRAY.encode())
            return [name for (name,) in await found.fetchall()]

    async def pause(self, projection: str) -> bool:
        """Pause the subscriptions of a projection. Returns False when there are none."""
        return await self._set_paused(projection, paused=True)

    async def resume(self, projection: str) -> bool:
        """Resume the subscriptions of a projection. Returns False when there are none."""
        return await self._set_paused(projection, paused=False)

    async def quarantine(self, feed: str | None = None, limit: int = 200) -> list[Quarantined]:
        """Quarantined streams, of one subscription or of all, in log order."""
        async with (
            self._pool.connection() as conn,
            conn.cursor(row_factory=class_row(Quarantined)) as cursor,
        ):
            await cursor.execute(_QUARANTINE, {"feed": feed, "limit": limit})
            return await cursor.fetchall()

    async def retry(self, quarantine_id: UUID) -> bool:
        """Request a retry of a quarantined stream. Returns False when it is not in quarantine."""
        return await self._tell(_RETRY, (quarantine_id,))

    async def selected(self, selection: Selection, limit: int) -> list[Quarantined]:
        """What a filter shows, in log order."""
        async with (
            self._pool.connection() as conn,
            conn.cursor(row_factory=class_row(Quarantined)) as cursor,
        ):
            await cursor.execute(_SELECT.encode(), _values(selection, limit))
            return await cursor.fetchall()

    async def retry_selected(self, selection: Selection, expected: int, limit: int) -> int:
        """Request a retry of all that a filter shows, if it shows as many as expected. Returns how
        many it shows."""
        async with self._pool.connection() as conn, conn.transaction():
            found = await conn.execute(_SELECT_LOCKED.encode(), _values(selection, limit))
            ids = [quarantine_id for (quarantine_id,) in await found.fetchall()]
            if len(ids) == expected:
                await conn.execute(_RETRY_ALL, (ids,))
                await conn.execute(f"NOTIFY {WAKE}".encode())
        return len(ids)

    async def _set_paused(self, projection: str, *, paused: bool) -> bool:
        return await self._tell(_SET_PAUSED, (paused, projection))

    async def _tell(self, change: str, values: tuple[object, ...]) -> bool:
        """Write a request to the runners, and wake them."""
        async with self._pool.connection() as conn:
            found = (await conn.execute(change.encode(), values)).rowcount > 0
            await conn.execute(f"NOTIFY {WAKE}".encode())
        return found


def _values(selection: Selection, limit: int) -> dict[str, object]:
    values = msgspec.structs.asdict(selection)
    return {**values, "error": selection.error or "", "limit": limit}
