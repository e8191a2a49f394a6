"""The relay: publishes the log to RabbitMQ, in order."""

import asyncio
import logging
from collections.abc import Sequence
from time import monotonic
from typing import Protocol
from uuid import UUID

import psycopg

from adapters.relay.cloudevents import to_cloudevent
from eventstore.consumers import checkpoints, histories
from eventstore.consumers.leadership import RETRY_SECONDS, leading
from eventstore.database.postgres import AWAY
from eventstore.database.release import require_current
from eventstore.history import HistoryChanged
from eventstore.postgres_log import PostgresLog
from kit.cancellation import stop_if_cancelled
from runtime.settings import Settings
from runtime.wiring.adapters import event_bus
from runtime.wiring.core import open_core

logger = logging.getLogger(__name__)

RELAY_PAGE = 500
PROOF_SECONDS = 5.0
"""How long a proof of the lead is valid: less than the silence after which another process takes
the lead."""

PAUSED_SECONDS = 0.5
"""How often a paused relay checks whether it may continue."""


_LOST_LEAD: tuple[type[Exception], ...] = (checkpoints.CheckpointMoved, *AWAY)


class Publisher(Protocol):
    """An event bus. Raises ConnectionError if it may not have received everything; publish it again
    then. Nothing is published after `before` (monotonic time)."""

    async def publish(
        self, messages: Sequence[tuple[str, bytes, UUID]], *, before: float = ...
    ) -> None: ...


async def relay(settings: Settings) -> None:
    """Publish the log to RabbitMQ, in order, from where it left off."""
    publisher = event_bus(settings)
    async with open_core(settings) as core:
        while True:
            stop_if_cancelled()
            try:
                async with leading(core.url, "relay.1") as conn:
                    await publish_log(core.log, conn, publisher)
            except* _LOST_LEAD as errors:
                logger.warning("the relay lost its lead: %s", errors.exceptions[0])
            finally:
                # nothing of this leader's may arrive after what the next one publishes
                await publisher.close()
            await asyncio.sleep(RETRY_SECONDS)


async def publish_log(log: PostgresLog, conn: psycopg.Connection, publisher: Publisher) -> None:
    """Publish page after page, and save the checkpoint over `conn`. Waits between pages while
    paused."""
    name = checkpoints.register(conn, "relay", 1, "")
    position, generation, refused, trail_at = 0, log.history.generation, False, float("-inf")
    while True:
        stop_if_cancelled()
        try:
            head = await log.watcher.beyond(position, generation)
        except HistoryChanged as error:
            logger.warning("the relay begins anew from its checkpoint: %s", error)
            position, generation = 0, log.history.generation
            continue
        await asyncio.to_thread(require_current, conn)
        subscription = await asyncio.to_thread(checkpoints.subscription, conn, name)
        assert subscription is not None
        position = subscription.position
        if subscription.astray and not refused:
            await asyncio.to_thread(histories.log_astray, conn, subscription)
        refused = subscription.astray
        if subscription.paused or subscription.astray:
            position = 0
            await asyncio.sleep(PAUSED_SECONDS)
        elif rows := await log.read_raw(position, upto=head, limit=RELAY_PAGE):
            epochs = await asyncio.to_thread(histories.Epochs, conn)
            messages = [
                (env.name, to_cloudevent(env, payload, epochs.of(env.position)), env.event_id)
                for env, payload in rows
            ]
            await _publish(publisher, conn, messages)
            done = [(name, position, rows[-1][0].position)]
            while not await asyncio.to_thread(checkpoints.move_free, conn, done):  # noqa: ASYNC110
                # somebody has locked the row: starting over would publish the page again
                await asyncio.sleep(RETRY_SECONDS)
            if (now := asyncio.get_running_loop().time()) > trail_at:
                trail_at = now + histories.TRAIL_SECONDS
                await asyncio.to_thread(histories.leave_trail, conn, [name])
            position = rows[-1][0].position


async def _publish(
    publisher: Publisher, conn: psycopg.Connection, messages: Sequence[tuple[str, bytes, UUID]]
) -> None:
    """Publish a page, for as long as it takes. Raises psycopg.OperationalError once the lead is
    lost.

    A relay that was frozen has been replaced, and must not publish its old page when it wakes. So
    each attempt needs a recent proof of the lead. What was being sent is lost with the connection,
    which the broker has closed before another process leads (rabbitmq_relay.HEARTBEAT_SECONDS).
    """
    while True:
        stop_if_cancelled()
        proved = monotonic()
        await asyncio.to_thread(conn.execute, "SELECT 1")
        try:
            await publisher.publish(messages, before=proved + PROOF_SECONDS)
        except ConnectionError as error:
            logger.warning("the event bus does not answer: %s", error)
            await asyncio.sleep(1)
        else:
            return
