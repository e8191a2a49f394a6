"""Figures about the shop right now, for /metrics and the overview.

What cannot be looked up in time is left out: figures are needed most during an outage.
"""

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from api.services import Services
from commands.ports.queue import WorkQueue
from eventstore.database.postgres import AWAY
from kit.seldom import Seldom
from queries.engine.positions import ReadModelBehind
from queries.operations import alerts, findings, self_audit
from queries.operations.alerts import AlertNow
from queries.operations.deadlines import Overdue, overdue

_away = Seldom(logging.getLogger(__name__))

CHECK_SECONDS = 0.7
"""How long each look may take. All run at once, so that the answer takes less than a second."""

MAX_ALERTS = 20
"""How many open alerts the overview shows."""

_UNSEEN: tuple[type[Exception], ...] = (*AWAY, TimeoutError)
_UNREAD: tuple[type[Exception], ...] = (*_UNSEEN, ReadModelBehind)

_UNKNOWN = Overdue(math.nan, math.nan)


class Consumers(NamedTuple):
    """The end of the log; of each consumer its lag, quarantined streams, and whether it is astray;
    for how many seconds the next event waits for it."""

    head: int
    states: Mapping[str, tuple[int, int, bool]]
    late: Mapping[str, float]


async def consumers(services: Services) -> Consumers:
    """Who reads the log, and how far each is; nobody, while the database does not answer."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            with services.while_there():
                found = await services.operations.subscriptions()
                fed = {each.feed: each for each in found if each.lag is not None}
                ages = await services.operations.ages([each.position for each in fed.values()])
                return Consumers(
                    await services.log.head(),
                    {name: (each.lag or 0, each.parked, each.astray) for name, each in fed.items()},
                    {name: ages.get(each.position, 0.0) for name, each in fed.items()},
                )
    except _UNSEEN as error:
        _away.warning("log", f"figures of the log and the projections are missing: {error!r}")
        return Consumers(0, {}, {})


async def deadlines(services: Services) -> Overdue:
    """What is due and was not handled; NaN if that is not known."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            with services.while_there():
                return await overdue(services.reads, services.clock.now())
    except _UNREAD as error:
        _away.warning("deadlines", f"figures of the deadlines are missing: {error!r}")
        return _UNKNOWN


async def audited(services: Services) -> tuple[Mapping[str, int], Mapping[str, float]]:
    """How many findings of each invariant are open, 0 for those without any; and, by scope, how
    long ago the shop's audit of itself looked."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            with services.while_there():
                looks = await self_audit.looks(services.log.pool)
                counts = (await findings.open_by_invariant(services.reads)).value
                names = {each.invariant: 0 for each in looks}
                return {**names, **counts}, await self_audit.ages(services.log.pool)
    except _UNREAD as error:
        _away.warning("audit", f"figures of the shop's audit of itself are missing: {error!r}")
        return {}, {}


async def open_alerts(services: Services) -> Sequence[AlertNow] | None:
    """The latest alerts that are raised or acknowledged, at most MAX_ALERTS; None while that is not
    known."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            with services.while_there():
                found = await alerts.alerts(services.reads, status="OPEN", limit=MAX_ALERTS)
                return found.value.items
    except _UNREAD as error:
        _away.warning("alerts", f"the open alerts are missing: {error!r}")
        return None


async def mirror_lag(services: Services) -> float | None:
    """How many seconds the mirror is behind; None without a mirror, NaN if that is not known."""
    if services.mirror_lag is None:
        return None
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await services.mirror_lag()
    except Exception as error:  # whatever was raised, the lag is unknown
        _away.warning("mirror", f"the mirror's lag is missing: {error!r}")
        return math.nan


class Jobs(NamedTuple):
    """What is shown of a queue."""

    depth: int
    dead: int
    oldest: float


async def jobs(queue: WorkQueue) -> Jobs | None:
    """The jobs of a queue; None while it does not answer."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return Jobs(await queue.depth(), await queue.dead(), await queue.oldest_seconds())
    except Exception as error:  # whatever was raised, the queue's state is unknown
        _away.warning(queue.name, f"figures of the queue {queue.name} are missing: {error!r}")
        return None
