"""How far the read models are: looked up once for all who wait in this process."""

import asyncio
from collections.abc import Iterable, Mapping

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from projections.feeds import EXAMINED, FEEDS

FIRST_POLL, SLOWEST_POLL = 0.003, 0.02
"""Seconds between two looks while somebody waits; the longer nothing moves, the longer."""


class ReadModelBehind(Exception):
    """A read model has not reached a position in time, or has no table yet: ask again a little later."""


class PositionUnknown(Exception):
    """The log does not go that far."""

    def __init__(self, position: int, head: int) -> None:
        super().__init__(f"the log ends at position {head}, before {position}")
        self.position, self.head = position, head


class ActiveFeed(msgspec.Struct, frozen=True):
    """The feed of a projection that queries read, the storage of its rows, its checkpoint, and whether that storage was
    found to be of the log's history since the last epoch began: of a storage that goes with the checkpoint, it is."""

    feed: str
    storage: str
    position: int
    examined: bool


class _Waiter(msgspec.Struct):
    names: frozenset[str]
    position: int
    reached: asyncio.Future[None]


class PositionWaiter:
    """Waits until feeds reach a position.

    `versions` says which version of a projection counts; of a projection not named there (a reactor, an index), the
    highest.
    """

    def __init__(self, pool: AsyncConnectionPool, versions: Mapping[str, int]) -> None:
        self._pool, self._versions = pool, dict(versions)
        self._waiters: list[_Waiter] = []
        self._poller: asyncio.Task[None] | None = None
        self._come = asyncio.Event()

    async def wait(self, projections: Iterable[str], position: int, timeout: float) -> bool:
        """Wait until the active feeds of these projections are at a position; False when that takes too long.

        Raises PositionUnknown when the log ends before the position.
        """
        await self._check(position)
        waiter = _Waiter(frozenset(projections), position, asyncio.get_running_loop().create_future())
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

    async def active(self, projections: Iterable[str] | None = None) -> dict[str, ActiveFeed]:
        """The active feeds of these projections, or of all. Raises ReadModelBehind when one has none yet."""
        async with self._pool.connection() as conn:
            rows = await conn.execute(
                f"SELECT projection, version, feed, storage, c.position, {EXAMINED} FROM {FEEDS}"
                " WHERE active ORDER BY version"
            )
            found = {
                projection: ActiveFeed(feed, storage, position, examined)
                for projection, version, feed, storage, position, examined in await rows.fetchall()
                if self._versions.get(projection, version) == version
            }
        if projections is None:
            return found
        missing = [name for name in projections if name not in found]
        if missing:
            raise ReadModelBehind(f"{', '.join(missing)} have never been projected")
        return {name: found[name] for name in projections}

    async def head(self) -> int:
        """The last position of the log."""
        async with self._pool.connection() as conn:
            row = await (await conn.execute("SELECT coalesce(max(position), 0) FROM log.events")).fetchone()
        return int(row[0]) if row else 0

    async def _check(self, position: int) -> None:
        if position > 0 and position > (head := await self.head()):
            raise PositionUnknown(position, head)

    async def _poll(self) -> None:
        """Look while somebody waits; a newcomer and every movement quicken the pace."""
        pause, before = FIRST_POLL, {}  # type: tuple[float, dict[str, ActiveFeed]]
        while self._waiters:
            self._come.clear()
            try:
                now = await self.active()
            except psycopg.Error as error:
                self._fail(error)
                return
            for waiter in self._waiters:
                if not waiter.reached.done() and _is_reached(now, waiter):
                    waiter.reached.set_result(None)
            pause = FIRST_POLL if now != before else min(pause * 1.5, SLOWEST_POLL)
            before = now
            try:
                async with asyncio.timeout(pause):
                    await self._come.wait()
                pause = FIRST_POLL
            except TimeoutError:
                pass

    def _fail(self, error: Exception) -> None:
        for waiter in self._waiters:
            if not waiter.reached.done():
                waiter.reached.set_exception(error)


def _is_reached(now: Mapping[str, ActiveFeed], waiter: _Waiter) -> bool:
    return all(name in now and now[name].position >= waiter.position for name in waiter.names)
