"""The consumers of the log, each with its storages: how far they are, and which process leads."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter

import msgspec
from psycopg_pool import AsyncConnectionPool

from eventstore.database.locks import LEAD
from queries.operations.control import Operations, SubscriptionState

_LEADERS = f"""
SELECT f.feed, a.application_name, a.pid
FROM consumers.feeds AS f
JOIN pg_locks AS l ON l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
    AND l.classid = {LEAD} AND l.objid = (hashtext(f.feed)::bigint & 4294967295)::oid
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
JOIN pg_stat_activity AS a ON a.pid = l.pid
"""
"""See `eventstore.consumers.checkpoints.try_lead`."""


class Fed(msgspec.Struct, frozen=True):
    """A subscription, in words what is so with it, since how many seconds it has been behind (None:
    it is not), and which connection leads it."""

    subscription: SubscriptionState
    state: str
    behind_seconds: float | None
    led_by: str | None


class Consumer(msgspec.Struct, frozen=True):
    """A read model with all its storages, or a reactor, or the relay: then `keeps_rows` is False.
    `current` is what this release reads or feeds first, if it has run."""

    name: str
    keeps_rows: bool
    known: bool
    current: Fed
    feeds: Sequence[Fed]

    @property
    def goes_back(self) -> bool:
        """Whether there is a storage of before the last rebuild to roll back to."""
        return any(each.state == STANDBY for each in self.feeds)


LIVE, STANDBY = "live", "standby"


def state_of(subscription: SubscriptionState, versions: Mapping[str, int]) -> str:
    """What is so with a subscription, in words. `versions` are those of this release's read
    models."""
    if subscription.building or subscription.paused:
        return "building" if subscription.building else "paused"
    if subscription.astray:
        return "astray"
    if subscription.storage and (version := _other_version(subscription, versions)):
        return version
    if subscription.ready_at is not None:
        return "catching up"
    return LIVE if subscription.active else STANDBY


def _other_version(subscription: SubscriptionState, versions: Mapping[str, int]) -> str:
    if subscription.projection not in versions:
        return "unknown to this release"
    ours = versions[subscription.projection]
    if subscription.version == ours:
        return ""
    return f"{'old' if subscription.version < ours else 'newer'} version {subscription.version}"


async def consumers(
    pool: AsyncConnectionPool, operations: Operations, name: str | None = None
) -> list[Consumer]:
    """All consumers that have run, by name, or the one of this name."""
    found = [
        each for each in await operations.subscriptions() if name is None or each.projection == name
    ]
    behind = [each.position for each in found if each.lag]
    ages = await operations.ages(behind) if behind else {}
    leaders = await _leaders(pool)
    feeds = [
        Fed(
            each,
            state_of(each, operations.versions),
            ages.get(each.position) if each.lag else None,
            leaders.get(each.feed),
        )
        for each in found
    ]
    feeds.sort(key=lambda each: (each.subscription.projection, not each.subscription.active))
    return [
        _consumer(name, list(group), operations.versions)
        for name, group in groupby(feeds, key=attrgetter("subscription.projection"))
    ]


def _consumer(name: str, feeds: Sequence[Fed], versions: Mapping[str, int]) -> Consumer:
    ours = [each for each in feeds if each.subscription.version == versions.get(name)]
    current = (ours or feeds)[0]
    keeps_rows = bool(current.subscription.storage)
    return Consumer(name, keeps_rows, not keeps_rows or name in versions, current, feeds)


async def _leaders(pool: AsyncConnectionPool) -> dict[str, str]:
    """By feed, the connection that leads it: its program, and its process at the server."""
    async with pool.connection() as conn:
        rows = await (await conn.execute(_LEADERS.encode())).fetchall()
    return {feed: f"{program} (backend {pid})" for feed, program, pid in rows}
