"""How far the read models are: looked up once for all who wait in this process."""

import asyncio
from collections.abc import Collection, Iterable, Mapping

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from eventstore.consumers.checkpoints import EXAMINED, HEAD, SUBSCRIPTIONS
from kit.cancellation import stop_if_cancelled

FIRST_POLL_SECONDS, SLOWEST_POLL_SECONDS = 0.003, 0.02
"""Seconds between two looks while somebody waits; the longer nothing moves, the longer."""

FED_WITHIN_SECONDS = 10
"""A subscription that has not moved for so long, and is not at the head, is not fed any more."""


_READABLE = f"""
SELECT
    projection, version, feed, storage, c.position, {EXAMINED}, ready_at,
    updated_at > clock_timestamp() - interval '{FED_WITHIN_SECONDS} s',
    to_regclass(format('read.%I', storage)) IS NULL
FROM {SUBSCRIPTIONS} WHERE active OR ready_at IS NOT NULL
ORDER BY version
"""


class ReadModelBehind(Exception):
    """A read model has not reached a position in time, or has no table yet: ask again a little
    later."""


class CatchingUp(ReadModelBehind):
    """A read model of a new version, or whose rows were lost, does not have yet what the log had
    when it began."""

    def __init__(self, name: str, progress: "Progress") -> None:
        super().__init__(f"{name} catches up: it is at {progress.position} of {progress.upto}")
        self.left = progress.upto - progress.position


class PositionUnknown(Exception):
    """The log does not go that far."""

    def __init__(self, position: int, head: int) -> None:
        super().__init__(f"the log ends at position {head}, before {position}")
        self.position = position
        self.head = head


class ActiveSubscription(msgspec.Struct, frozen=True):
    """The subscription of a projection that queries read, the storage of its rows, its checkpoint,
    and whether that storage was found to be of the log's history since the last epoch began: of a
    storage that goes with the checkpoint, it is."""

    name: str
    storage: str
    position: int
    examined: bool
    stands_in: bool = False
    """It is of an earlier version, read until this program's own has caught up."""


class Progress(msgspec.Struct, frozen=True):
    """How far a read model is that cannot be read yet, and how far it has to be."""

    position: int
    upto: int


class Readable(msgspec.Struct, frozen=True):
    """Which versions of a projection this program's queries can read: its own, and earlier ones as
    long as they are fed."""

    version: int
    earlier: Collection[int] = ()
    is_table: bool = True
    """Whether its rows are in a table, without which there is nothing to read."""


class _Waiter(msgspec.Struct):
    names: frozenset[str]
    position: int
    reached: asyncio.Future[None]


class PositionWaiter:
    """Waits until subscriptions reach a position.

    `readable` says which versions of a projection count; of a projection not named there (a
    reactor), the highest.
    """

    def __init__(self, pool: AsyncConnectionPool, readable: Mapping[str, Readable]) -> None:
        self._pool = pool
        self._readable = dict(readable)
        self._waiters: list[_Waiter] = []
        self._poller: asyncio.Task[None] | None = None
        self._come = asyncio.Event()

    async def wait(self, projections: Iterable[str], position: int, timeout: float) -> bool:
        """Wait until the active subscriptions of these projections are at a position; False when
        that takes too long.

        Raises PositionUnknown when the log ends before the position.
        """
        await self._check(position)
        waiter = _Waiter(
            frozenset(projections), position, asyncio.get_running_loop().create_future()
        )
        self._waiters.append(waiter)
        self._come.set()
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="position-waiter")
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
        found, behind = await self._look()
        if projections is None:
            return found
        names = list(projections)
        missing = [name for name in names if name not in found]
        for name in missing:
            if name in behind:
                raise CatchingUp(name, behind[name])
        if missing:
            raise ReadModelBehind(f"{', '.join(missing)} have never been projected")
        return {name: found[name] for name in names}

    async def catching_up(self, projections: Iterable[str]) -> dict[str, Progress]:
        """Those of these projections that cannot be read yet, though there are events."""
        found, behind = await self._look()
        missing = [name for name in projections if name not in found]
        head = await self.head() if missing else 0
        return (
            {name: _up_to(head, behind.get(name, Progress(0, 0))) for name in missing}
            if head
            else {}
        )

    async def _look(self) -> tuple[dict[str, ActiveSubscription], dict[str, Progress]]:
        """The subscriptions that can be read, and how far those are that will be."""
        found: dict[str, ActiveSubscription] = {}
        behind: dict[str, Progress] = {}
        stand_ins: dict[str, tuple[ActiveSubscription, bool]] = {}
        async with self._pool.connection() as conn:
            rows = await conn.execute(_READABLE)
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
            ) in await rows.fetchall():
                readable = self._readable.get(projection, Readable(version, is_table=False))
                if version == readable.version and ready_at is not None:
                    behind[projection] = Progress(position, ready_at)
                elif lost and readable.is_table:
                    pass  # until a projector has made it anew
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
        return found, behind

    async def head(self) -> int:
        """The last position of the log."""
        async with self._pool.connection() as conn:
            row = await (await conn.execute(f"SELECT {HEAD}")).fetchone()
        return int(row[0]) if row else 0

    async def _check(self, position: int) -> None:
        if position > 0 and position > (head := await self.head()):
            raise PositionUnknown(position, head)

    async def _poll(self) -> None:
        """Look while somebody waits; a newcomer and every movement quicken the pace."""
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


def _up_to(head: int, progress: Progress) -> Progress:
    return Progress(progress.position, max(head, progress.upto))


def _is_reached(now: Mapping[str, ActiveSubscription], waiter: _Waiter) -> bool:
    return all(name in now and now[name].position >= waiter.position for name in waiter.names)
