"""Gives up acts of operators whose process died: nobody else would record that they are over."""

import asyncio
import logging

from commands.acts import ActUnderWay
from commands.caller import SYSTEM
from eventstore.database.postgres import is_away
from eventstore.database.under_way import not_held
from kit.cancellation import stop_if_cancelled
from kit.seldom import Seldom
from queries.audit import acts
from queries.audit import tasks as audit_tasks
from queries.engine.read_models import ReadModels
from runtime.gateway.audit_tasks import tell_end
from runtime.wiring.core import Core

logger = logging.getLogger(__name__)
_unseen = Seldom(logger)

LOOK_SECONDS = 10.0


async def keep_giving_up(core: Core) -> None:
    """End the acts that nobody is doing any more, again and again. Raises psycopg.OperationalError
    and its like."""
    models = ReadModels(core.log.pool)
    while True:
        stop_if_cancelled()
        try:
            await give_up_lost_acts(core, models)
        except Exception as error:  # the log does not take appends, a read model is not there yet
            if is_away(error):
                raise
            _unseen.warning("acts", f"it is unknown whether acts of operators are over: {error!r}")
        await asyncio.sleep(LOOK_SECONDS)


async def give_up_lost_acts(core: Core, models: ReadModels) -> None:
    """End the acts that have begun and that no process holds: one that is a task with what came of
    that, any other as interrupted."""
    for act_id in await not_held(core.log.pool, await acts.under_way(models)):
        task = await audit_tasks.task(core.log.pool, act_id)
        if task is None:
            await core.commands.acts.give_up(SYSTEM, act_id)
        elif task.state != "RUNNING":
            act = ActUnderWay(act_id, None)
            tell_end(act, task)
            await core.commands.acts.end(SYSTEM, [act])
