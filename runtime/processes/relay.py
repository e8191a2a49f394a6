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
"""How long the proof of the lead is good for: less than the silence after which another leads."""

PAUSED_SECONDS = 0.5
"""How often a paused relay looks whether it may go on."""


_LOST_LEAD: tuple[type[Exception], ...] = (checkpoints.CheckpointMoved, *AWAY)


class Publisher(Protocol):
    """An event bus. Raises ConnectionError when it is not certain that it has got all: publish them
    again.

    After `before` (monotonic time) nothing is published.
    """

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
                # nothing that was under way may come after what the next leader publishes
                await publisher.close()
            await asyncio.sleep(RETRY_SECONDS)


async def publish_log(log: PostgresLog, conn: psycopg.Connection, publisher: Publisher) -> None:
    """Publish page after page, and keep the checkpoint over `conn`; stands still between pages
    while paused."""
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
                # somebody holds it: to begin anew would publish the page again
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

    A relay that stood still was replaced meanwhile, and must not publish its old page when it
    wakes. So each try begins with proof of the lead, and is not made when that is old; what is on
    its way then is lost with the connection, which the broker has closed by the time another leads
    (rabbitmq_relay.HEARTBEAT_SECONDS).
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
