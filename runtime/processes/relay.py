"""The relay: publishes the log to RabbitMQ, in order."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

import psycopg

from adapters.cloudevents import to_cloudevent
from adapters.rabbitmq_relay import RabbitPublisher
from eventstore.cancellation import stop_if_cancelled
from eventstore.history import HistoryChanged
from eventstore.postgres_log import PostgresLog
from eventstore.release import require_current
from projections import feeds
from projections.leading import leading
from runtime.settings import Settings
from runtime.wiring import open_core

log = logging.getLogger(__name__)

RELAY_PAGE = 500
PAUSED_SECONDS = 0.5
"""How often a paused relay looks whether it may go on."""


class Publisher(Protocol):
    """An event bus. Raises ConnectionError when it is not certain that it has got all: publish them again."""

    async def publish(self, messages: Sequence[tuple[str, bytes, UUID]]) -> None: ...


async def relay(settings: Settings) -> None:
    """Publish the log to RabbitMQ, in order, from where it left off."""
    publisher = RabbitPublisher(settings.rabbitmq_url.get_secret_value())
    async with open_core(settings) as core, leading(core.url, "relay.1") as conn:
        await publish_log(core.log, conn, publisher)


async def publish_log(log_: PostgresLog, conn: psycopg.Connection, publisher: Publisher) -> None:
    """Publish page after page, and keep the checkpoint over `conn`; stands still between pages while paused."""
    name = feeds.register(conn, "relay", 1, "")
    position, generation = 0, log_.history.generation
    while True:
        stop_if_cancelled()
        try:
            head = await log_.watcher.beyond(position, generation)
        except HistoryChanged as error:
            log.warning("the relay begins anew from its checkpoint: %s", error)
            position, generation = 0, log_.history.generation
            continue
        await asyncio.to_thread(require_current, conn)
        feed = await asyncio.to_thread(feeds.feed, conn, name)
        assert feed is not None
        position = feed.position
        if feed.paused:
            await asyncio.sleep(PAUSED_SECONDS)
        elif rows := await log_.read_raw(position, upto=head, limit=RELAY_PAGE):
            await _publish(publisher, [(env.name, to_cloudevent(env, payload), env.event_id) for env, payload in rows])
            await asyncio.to_thread(feeds.move, conn, [(name, position, rows[-1][0].position)])
            position = rows[-1][0].position


async def _publish(publisher: Publisher, messages: Sequence[tuple[str, bytes, UUID]]) -> None:
    while True:
        try:
            await publisher.publish(messages)
        except ConnectionError as error:
            log.warning("the event bus does not answer: %s", error)
            await asyncio.sleep(1)
        else:
            return
