"""The relay: publishes the log to RabbitMQ, Kafka or both, in order."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Protocol, TypeVar

import psycopg

from eventstore.consumers import checkpoints, histories
from eventstore.consumers.leadership import RETRY_SECONDS, leading
from eventstore.database.postgres import AWAY
from eventstore.database.release import require_current
from eventstore.history import HistoryChanged
from eventstore.log import Envelope
from eventstore.postgres_log import PostgresLog
from kit.cancellation import let_end, stop_if_cancelled
from runtime.settings import Settings
from runtime.wiring.adapters import kafka_bus, rabbitmq_bus
from runtime.wiring.core import open_core

logger = logging.getLogger(__name__)

RABBITMQ, KAFKA = "relay", "relay_kafka"
"""The subscriptions: each bus has its own checkpoint, and does not wait for the other."""

RELAY_PAGE = 500
PROOF_SECONDS = 5.0
"""How long a proof of the lead is valid: less than the silence after which another process takes
the lead."""

FINISH_SECONDS = 6.0
"""How long a relay that stops may take to finish its page."""

PAUSED_SECONDS = 0.5
"""How often a paused relay checks whether it may continue."""


_LOST_LEAD: tuple[type[Exception], ...] = (checkpoints.CheckpointMoved, *AWAY)


M = TypeVar("M")


class Publisher(Protocol[M]):
    """An event bus, and what its messages are."""

    def message(self, env: Envelope, payload: bytes, epoch: str | None) -> M: ...

    async def publish(self, messages: Sequence[M], *, before: float = ...) -> None:
        """Publish a page. Raises ConnectionError if the bus may not have received everything;
        publish it again then. Nothing is published after `before` (monotonic time)."""

    async def close(self) -> None: ...


async def relay(settings: Settings) -> None:
    """Publish the log to each bus, in order, from where it left off there."""
    async with open_core(settings) as core, asyncio.TaskGroup() as group:
        if rabbitmq := rabbitmq_bus(settings):
            group.create_task(relay_to(core.url, core.log, RABBITMQ, rabbitmq))
        if kafka := kafka_bus(settings):
            group.create_task(relay_to(core.url, core.log, KAFKA, kafka))


async def relay_to(url: str, log: PostgresLog, name: str, publisher: Publisher[M]) -> None:
    """Publish the log to one bus until cancelled, then finish the page at hand: otherwise the next
    relay would publish it again."""
    page = asyncio.Lock()
    relaying = asyncio.create_task(_keep_leading(url, log, name, publisher, page), name=name)
    try:
        await asyncio.shield(relaying)
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                await page.acquire()
        relaying.cancel()
        await let_end([relaying], FINISH_SECONDS)


async def _keep_leading(
    url: str, log: PostgresLog, name: str, publisher: Publisher[M], page: asyncio.Lock
) -> None:
    while True:
        stop_if_cancelled()
        try:
            async with leading(url, f"{name}.1") as conn:
                await publish_log(log, conn, publisher, name, page)
        except* _LOST_LEAD as errors:
            logger.warning("the relay lost its lead: %s", errors.exceptions[0])
        finally:
            # nothing of this leader's may arrive after what the next one publishes
            await publisher.close()
        await asyncio.sleep(RETRY_SECONDS)


async def publish_log(
    log: PostgresLog,
    conn: psycopg.Connection,
    publisher: Publisher[M],
    projection: str = RABBITMQ,
    page: asyncio.Lock | None = None,
) -> None:
    """Publish page after page, and save the checkpoint of this subscription over `conn`. Waits
    between pages while paused. Holds the lock `page` from the publishing of a page until its
    checkpoint is saved."""
    page = page or asyncio.Lock()
    name = checkpoints.register(conn, projection, 1, "")
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
                publisher.message(env, payload, epochs.of(env.position)) for env, payload in rows
            ]
            done = [(name, position, rows[-1][0].position)]
            async with page:
                await _publish(publisher, conn, messages)
                while not await asyncio.to_thread(  # noqa: ASYNC110
                    checkpoints.move_free, conn, done
                ):
                    # somebody has locked the row: starting over would publish the page again
                    await asyncio.sleep(RETRY_SECONDS)
            if (now := asyncio.get_running_loop().time()) > trail_at:
                trail_at = now + histories.TRAIL_SECONDS
                await asyncio.to_thread(histories.leave_trail, conn, [name])
            position = rows[-1][0].position


async def _publish(
    publisher: Publisher[M], conn: psycopg.Connection, messages: Sequence[M]
) -> None:
    """Publish a page, for as long as it takes. Raises psycopg.OperationalError once the lead is
    lost.

    A relay that was frozen has been replaced, and must not publish its old page when it wakes. So
    each attempt needs a recent proof of the lead. What was being sent is lost: RabbitMQ has closed
    the connection before another process leads (adapters.relay.rabbitmq.HEARTBEAT_SECONDS), and
    Kafka refuses a producer when another one has connected.
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
