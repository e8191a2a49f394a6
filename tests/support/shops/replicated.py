"""A shop whose queries a standby may answer."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from time import monotonic

from psycopg.errors import SerializationFailure
from psycopg_pool import AsyncConnectionPool

from eventstore.database.postgres import open_pool
from eventstore.postgres_log import PostgresLog
from projections.registry import read_models
from queries.engine.own_writes import ReadYourWrites
from queries.engine.read_models import ReadModels
from queries.engine.replica import Replica, open_replica
from tests.support.servers import shared
from tests.support.servers.standby import Pair
from tests.support.shops.projected import CODEC, Shop, projecting

NAMES = [each.projection.name for each in read_models()]


class ReplicatedShop(Shop):
    """`primary` are its read models on the primary alone."""

    def __init__(
        self, url: str, log: PostgresLog, replica: Replica, standby: AsyncConnectionPool
    ) -> None:
        super().__init__(url, log)
        self.primary = self.models
        self.replica = replica
        self._standby = ReadModels(standby)

    def request(self, own: ReadYourWrites | None = None) -> ReadModels:
        """The read models for one request, which the standby may answer."""
        view = self.primary.from_replica(self.replica)
        return view if own is None else view.of_caller(own)

    async def projected(self) -> ReadModels:
        """The read models once the standby has all events so far."""
        head = await self.log.head()
        async with asyncio.timeout(30):
            while not await self._has_read(head):
                pass
        await self.until(lambda: not self.replica.unfit)
        return self.request().reaching(head, timeout=20)

    async def _has_read(self, head: int) -> bool:
        try:
            return await self._standby.waiter.reach(dict.fromkeys(NAMES, head), 30)
        except SerializationFailure:  # it was in the way of what the standby had to replay
            return False

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait for what the process finds out about its standby."""
        deadline = monotonic() + 30
        while not holds():
            assert monotonic() < deadline, f"the standby is unfit: {self.replica.unfit}"
            await asyncio.sleep(0.01)


@contextmanager
def database_of(pair: Pair) -> Iterator[str]:
    """The URL of a new database of the primary, with the program's schema."""
    template = shared.migrated_template(pair.primary.url)
    url = shared.create_database(pair.primary.url, template=template)
    yield url
    shared.drop_database(url)


def open_replicated(pair: Pair, url: str) -> AbstractAsyncContextManager[ReplicatedShop]:
    """A shop whose projector runs, with the standby's copy of its database."""
    copy = shared.at_database(pair.standby.url, url.partition("?")[0].rpartition("/")[2])
    return open_shop_with(url, copy)


@asynccontextmanager
async def open_shop_with(url: str, standbys: str) -> AsyncIterator[ReplicatedShop]:
    """A shop whose projector runs, and whose queries the standbys at a URL may answer."""
    async with (
        PostgresLog.open(url, CODEC, pool_size=4) as log,
        open_replica(log, standbys, 4) as replica,
        open_pool(standbys, 1, sessions="prefer-standby") as standby,
        projecting(url),
    ):
        yield ReplicatedShop(url, log, replica, standby)
