"""Queries from the standbys of a cluster that fails over: callers see their own writes, and whoever
is a standby then answers again."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TypeVar

import psycopg
import pytest

from eventstore.log import LogUnavailable, VersionConflict
from queries.engine import replica
from runtime.release.migrate import migrate
from tests.queries.test_replica import ANN, Process
from tests.support.servers.cluster import Cluster
from tests.support.shops.replicated import open_shop_with

T = TypeVar("T")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as made:
        yield made


async def surely(act: Callable[[], Awaitable[T]]) -> T:
    """Repeat until a server can do it."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await act()
            except (psycopg.OperationalError, LogUnavailable, VersionConflict):
                await asyncio.sleep(0.05)


@pytest.mark.soak
async def test_own_writes_are_seen_and_standbys_used_through_fail_overs(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr("queries.engine.own_writes.WAIT_TIMEOUT_SECONDS", 30.0)
    migrate(cluster.url)
    anywhere = cluster.url.replace("read-write", "prefer-standby")
    async with open_shop_with(cluster.url, anywhere) as shop:
        process = Process(shop)

        async def edits(name: str) -> None:
            for n in range(15):
                title = f"{name} {n}"
                await surely(partial(process.edit, title, ANN))
                assert await surely(partial(process.own_title, ANN)) == title

        await edits("before")
        await process.is_answered_by_the_standby()
        cluster.switch_over()
        await edits("handed over")
        await process.is_answered_by_the_standby()
        killed = cluster.primary()
        killed.kill()
        await edits("taken over")
        killed.start()
        await process.is_answered_by_the_standby()
        await edits("after")
