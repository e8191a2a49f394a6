"""The positions of read models, looked up once for all who wait in this process."""

import asyncio
from collections.abc import Collection, Iterable, Mapping

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from eventstore.consumers.checkpoints import EXAMINED, HEAD, SUBSCRIPTIONS
from kit.background import background_task
from kit.cancellation import stop_if_cancelled

FIRST_POLL_SECONDS, SLOWEST_POLL_SECONDS = 0.003, 0.02
"""The first and the longest pause between two looks while somebody waits; it grows while nothing
moves."""

FED_WITHIN_SECONDS = 10
"""A subscription that has not moved for this long, and is not at the head, counts as no longer
fed."""

SOON_POSITIONS = 20_000
"""How far behind a read model may be for a query to wait for it: a second's work."""

_COLUMNS = f"""
SELECT
    projection, version, feed, storage, c.position, {EXAMINED}, ready_at,
    updated_at > clock_timestamp() - interval '{FED_WITHIN_SECONDS} s',
    to_regclass('read.' || quote_ident(storage)) IS NULL"""

_READABLE = f"""
FROM {SUBSCRIPTIONS} WHERE active OR ready_at IS NOT NULL
ORDER BY version
"""

MAX_SCANNED_EVENTS = 100
"""How many newer events a query searches for the caller's own; if there are more,
`queries.engine.own_writes` reads them."""

NEWER = f"""(
    SELECT count(*) > %(_scanned)s OR coalesce(bool_or(
        actor = %(_actor)s OR correlation_id = ANY (%(_correlations)s::uuid[])), false)
    FROM (
        SELECT actor, correlation_id FROM log.events WHERE position > %(_followed)s
        ORDER BY position LIMIT {MAX_SCANNED_EVENTS + 1}
    ) AS newer
)"""
"""SQL: whether the log has events of a caller that this process has not read yet. The values are
those of queries.engine.own_writes."""


class ReadModelBehind(Exception):
    """A read model has not reached a position in time, or has no table yet. A retry may succeed."""


class CatchingUp(ReadModelBehind):
    """A read model of a new version, or whose rows were lost, has not caught up with the log
    yet."""

    def __init__(self, name: str, progress: "Progress") -> None:
        super().__init__(f"{name} catches up: it is at {progress.position} of {progress.upto}")
        self.left = progress.upto - progress.position


class PositionUnknown(Exception):
    """The log ends before the position."""

    def __init__(self, position: int, head: int) -> None:
        super().__init__(f"the log ends at position {head}, before {position}")
        self.position = position
        self.head = head


class ActiveSubscription(msgspec.Struct, frozen=True):
    """The subscription of a projection that queries read: its storage, its checkpoint, and whether
    the storage was checked against the log's history since the last epoch began (always true for a
    table)."""

    name: str
    storage: str
    position: int
    examined: bool
    stands_in: bool = False
    """Whether it is of an earlier version, read until this program's own has caught up."""


class Progress(msgspec.Struct, frozen=True):
    """The position of a read model that cannot be read yet, and the position that it has to
    reach."""

    position: int
    upto: int


class Readable(msgspec.Struct, frozen=True):
    """The versions of a projection that this program's queries can read: its own, and earlier ones
    as long as they are fed."""

    version: int
    earlier: Collection[int] = ()
    is_table: bool = True
    """Whether its rows are in a table, which must exist to be read."""


class _Waiter(msgspec.Struct):
    positions: Mapping[str, int]
    reached: asyncio.Future[None]


class PositionWaiter:
    """Waits until subscriptions reach a position.

    `readable` says which versions of a projection count; of others (reactors), the highest counts.
    """

    def __init__(self, pool: AsyncConnectionPool, readable: Mapping[str, Readable]) -> None:
        self._pool = pool
        self._readable = dict(readable)
        self._waiters: list[_Waiter] = []
        self._poller: asyncio.Task[None] | None = None
        self._come = asyncio.Event()
        self._seen: dict[str, int] = {}

    def forget(self) -> None:
        """Forget all positions when the log went back."""
        self._seen = {}  # what is being looked up goes into the other one

    def last_seen(self, projection: str) -> int:
        """The position of the active subscription at the last look; -1 when there was none."""
        return self._seen.get(projection, -1)

    async def wait(self, projections: Iterable[str], position: int, timeout: float) -> bool:
        """Wait until the active subscriptions of these projections reach a position. Returns False
        when that takes too long.

        Raises PositionUnknown when the log ends before the position.
        """
        await self._check(position)
        return await self.reach(dict.fromkeys(projections, position), timeout)

    async def reach(self, positions: Mapping[str, int], timeout: float) -> bool:
        """Wait until the active subscription of each projection reaches its position, which must
        exist in the log. Returns False when that takes too long."""
        waiter = _Waiter(positions, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        self._come.set()
        if self._poller is None or self._poller.done():
            self._poller = background_task(self._poll(), "position-waiter")
        try:
            async with asyncio.timeout(timeout):
                await waiter.reached
        except TimeoutError:
            return False
        finally:
            self._waiters.remove(waiter)
        return True

    async def active(
        self, projections: Iterable[str] | None = None
    ) -> dict[str, ActiveSubscription]:
        """The active subscriptions of these projections, or of all. Raises ReadModelBehind when one
        has none yet."""
        found, behind, _ = await self._look()
        return found if projections is None else _named(projections, found, behind)

    async def active_and_newer(
        self, projection: str, caller: Mapping[str, object]
    ) -> tuple[ActiveSubscription, bool]:
        """The active subscription of a projection, and NEWER in the same snapshot. Raises
        ReadModelBehind."""
        found, behind, newer = await self._look(caller)
        return _named([projection], found, behind)[projection], newer

    async def catching_up(self, projections: Iterable[str]) -> dict[str, Progress]:
        """The projections among these that cannot be read yet although the log has events, with
        their progress."""
        found, behind, _ = await self._look()
        missing = [name for name in projections if name not in found]
        head = await self.head() if missing else 0
        return (
            {name: _up_to(head, behind.get(name, Progress(0, 0))) for name in missing}
            if head
            else {}
        )

    async def _look(
        self, caller: Mapping[str, object] | None = None
    ) -> tuple[dict[str, ActiveSubscription], dict[str, Progress], bool]:
        """The subscriptions that can be read, the progress of those that cannot yet, and NEWER for
        a caller."""
        seen, newer = self._seen, False
        found: dict[str, ActiveSubscription] = {}
        behind: dict[str, Progress] = {}
        stand_ins: dict[str, tuple[ActiveSubscription, bool]] = {}
        async with self._pool.connection() as conn:
            asked = f"{_COLUMNS}, {NEWER if caller else 'false'} {_READABLE}"
            rows = await conn.execute(asked.encode(), caller)
            for (
                projection,
                version,
                name,
                storage,
                position,
                examined,
                ready_at,
                fed,
                lost,
                beside,
            ) in await rows.fetchall():
                newer = beside
                readable = self._readable.get(projection, Readable(version, is_table=False))
                if version == readable.version and ready_at is not None:
                    behind[projection] = Progress(position, ready_at)
                elif lost and readable.is_table:
                    pass  # until a projector has recreated it
                elif version == readable.version:
                    found[projection] = ActiveSubscription(name, storage, position, examined)
                elif version in readable.earlier and ready_at is None:
                    stand_ins[projection] = (
                        ActiveSubscription(name, storage, position, examined, stands_in=True),
                        fed,
                    )
        for name, (stand_in, fed) in stand_ins.items():
            if name not in found and (fed or stand_in.position >= await self.head()):
                found[name] = stand_in
        seen.update((name, each.position) for name, each in found.items())
        return found, behind, newer

    async def head(self) -> int:
        """The last position of the log."""
        async with self._pool.connection() as conn:
            row = await (await conn.execute(f"SELECT {HEAD}")).fetchone()
        return int(row[0]) if row else 0

    async def _check(self, position: int) -> None:
        if position > 0 and position > (head := await self.head()):
            raise PositionUnknown(position, head)

    async def _poll(self) -> None:
        """Look up positions while somebody waits. A new waiter and any movement reset the pause."""
        pause, before = FIRST_POLL_SECONDS, {}  # type: tuple[float, dict[str, ActiveSubscription]]
        while self._waiters:
            stop_if_cancelled()
            self._come.clear()
            try:
                now = await self.active()
            except psycopg.Error as error:
                self._fail(error)
                return
            for waiter in self._waiters:
                if not waiter.reached.done() and _is_reached(now, waiter):
                    waiter.reached.set_result(None)
            pause = FIRST_POLL_SECONDS if now != before else min(pause * 1.5, SLOWEST_POLL_SECONDS)
            before = now
            try:
                async with asyncio.timeout(pause):
                    await self._come.wait()
                pause = FIRST_POLL_SECONDS
            except TimeoutError:
                pass

    def _fail(self, error: Exception) -> None:
        for waiter in self._waiters:
            if not waiter.reached.done():
                waiter.reached.set_exception(error)


def _named(
    projections: Iterable[str],
    found: Mapping[str, ActiveSubscription],
    behind: Mapping[str, Progress],
) -> dict[str, ActiveSubscription]:
    """The active subscriptions of these projections. Raises ReadModelBehind when one is missing."""
    names = list(projections)
    missing = [name for name in names if name not in found]
    for name in missing:
        if name in behind:
            raise CatchingUp(name, behind[name])
    if missing:
        raise ReadModelBehind(f"{', '.join(missing)} have never been projected")
    return {name: found[name] for name in names}


def _up_to(head: int, progress: Progress) -> Progress:
    return Progress(progress.position, max(head, progress.upto))


def _is_reached(now: Mapping[str, ActiveSubscription], waiter: _Waiter) -> bool:
    return all(
        name in now and now[name].position >= position
        for name, position in waiter.positions.items()
    )
