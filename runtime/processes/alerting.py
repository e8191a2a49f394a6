"""The worker's part in alerts: one process of all looks whether something is wrong."""

import asyncio
import logging

from eventstore.consumers.leadership import leading
from eventstore.database.postgres import AWAY, is_away
from kit.cancellation import stop_if_cancelled
from kit.error_groups import first_error
from kit.seldom import Seldom
from queries.engine.read_models import ReadModels
from queries.operations.control import Operations
from runtime.processes.alert_watch import AlertWatch, Sources
from runtime.wiring.core import Core
from runtime.wiring.work import Queues

logger = logging.getLogger(__name__)
_unseen = Seldom(logger)


async def keep_alerting(core: Core, queues: Queues) -> None:
    """Raise and resolve alerts while this process leads; another takes over when its connection
    ends."""

    async def lead() -> None:
        async with leading(core.url, "alerts"):
            await _look_again_and_again(core, alert_watch_of(core, queues))

    while True:
        stop_if_cancelled()
        try:
            # not in this task, which a failure would leave marked as cancelled: kit.cancellation
            await asyncio.create_task(lead(), name="alerts")
        except* AWAY as errors:
            logger.warning("the watch for alerts lost its database: %s", first_error(errors))
            await asyncio.sleep(1)


def alert_watch_of(core: Core, queues: Queues) -> AlertWatch:
    """The watch that the settings ask for."""
    settings, pool = core.settings, core.log.pool
    sources = Sources(
        Operations(pool),
        ReadModels(pool),
        pool,
        list(queues.values()),
        core.clock,
        late_seconds=settings.alert_late_seconds,
    )
    return AlertWatch(core.commands.alerts, sources, hold_seconds=settings.alert_hold_seconds)


async def _look_again_and_again(core: Core, watch: AlertWatch) -> None:
    while True:
        stop_if_cancelled()
        await asyncio.sleep(core.settings.alert_seconds)
        try:
            for name, error in (await watch.look()).items():
                _unseen.warning(name, f"it is unknown whether {name} holds: {error}")
        except Exception as error:  # the log does not take appends, a read model is not there yet
            if is_away(error):
                raise
            _unseen.warning("alerts", f"no alert can be raised: {error!r}")
