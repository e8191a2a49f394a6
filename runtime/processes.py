"""The processes that make up the program: each does one thing, may run on a host of its own, and stops on SIGTERM."""

import asyncio
import logging
import signal
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import uvicorn
import uvloop
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from fastapi import FastAPI

from adapters.attempts import patient
from adapters.cloudevents import to_cloudevent
from adapters.fiscal_simulator import create_app as create_fiscal_operator
from adapters.postgres_sessions import PostgresSessions
from adapters.provider_simulator import create_app as create_provider
from adapters.rabbitmq_relay import RabbitPublisher
from commands.deadlines import Deadlines
from domain.errors import Refused
from eventstore.log import AlreadyDone, LogUnavailable
from eventstore.postgres_log import RUN_AS, PostgresLog
from projections import feeds
from projections.engine import Registered, Runner
from projections.leading import leading
from projections.reacting import ReactorRunner, register_reactors
from runtime.models import due_times, search_models, table_models
from runtime.settings import Settings
from runtime.wiring import Core, codec, open_core, open_queues

log = logging.getLogger(__name__)

RELAY_PAGE = 500
PAUSED_SECONDS = 0.5
"""How often a paused relay looks whether it may go on."""

PURGE_SECONDS = 600
"""How often what has expired is dropped. Nobody reads it meanwhile: every reader looks at the time."""

DATABASE_AWAY = (LogUnavailable, psycopg.OperationalError, psycopg.InterfaceError)
"""What a payment's worker meets while our own database is away: not the provider's fault, and no attempt of its own."""

UNAVAILABLE = (TimeoutError, ConnectionError, AMQPError, ChannelInvalidStateError)
"""What a reactor meets while the work queues' broker is away."""


def run_until_stopped(main: Coroutine[Any, Any, None]) -> None:
    """Run a process's main task until it ends or SIGTERM or SIGINT asks it to."""

    async def supervised() -> None:
        task = asyncio.create_task(main)
        loop = asyncio.get_running_loop()
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            log.info("stopped")

    uvloop.run(supervised())


# -- projector ---------------------------------------------------------------------------------------------------------


def run_projector(settings: Settings, url: str) -> None:
    """Keep the read models in step: one thread for the tables, one for each search index."""
    groups: list[Sequence[Registered]] = [table_models(), *([model] for model in search_models(settings))]
    runners = [Runner(url, codec(), group, RUN_AS) for group in groups]
    threads = [threading.Thread(target=runner.run, name=f"projector-{n}") for n, runner in enumerate(runners)]
    stopping = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stopping.set())
    for thread in threads:
        thread.start()
    while not stopping.wait(1.0) and all(thread.is_alive() for thread in threads):
        pass
    for runner in runners:
        runner.stop()
    for thread in threads:
        thread.join()


# -- worker ------------------------------------------------------------------------------------------------------------


async def work(settings: Settings) -> None:
    """React to events, handle the queues' jobs, fire deadlines."""
    async with open_core(settings) as core, open_queues(core) as queues, asyncio.TaskGroup() as group:
        outcomes = (Refused, AlreadyDone)
        reactors = core.reactors(queues)
        runner = ReactorRunner(core.url, core.log, reactors, outcomes=outcomes, unavailable=UNAVAILABLE)
        group.create_task(runner.run())
        payments = core.payment_worker()
        take, lost = patient(payments.handle, DATABASE_AWAY), patient(payments.lost, DATABASE_AWAY)
        group.create_task(queues.payments.consume(take, concurrency=settings.workers, lost=lost))
        group.create_task(queues.mail.consume(core.notice_worker().handle, concurrency=8))
        group.create_task(queues.fiscal.consume(core.receipt_worker().handle, concurrency=8))
        group.create_task(queues.webhooks.consume(core.webhook_worker().handle, concurrency=32))
        group.create_task(_keep_time(core))


async def _keep_time(core: Core) -> None:
    """One process of all fires deadlines and drops what has expired; another takes over when its connection ends."""
    deadlines = Deadlines(due_times(core), core.deadline_commands, core.clock)
    while True:
        try:
            async with leading(core.url, "deadlines") as conn, asyncio.TaskGroup() as group:
                group.create_task(deadlines.run())
                group.create_task(purge_expired(core.log))
                while True:
                    await asyncio.to_thread(conn.execute, "SELECT 1")
                    await asyncio.sleep(1)
        except* psycopg.OperationalError as errors:
            log.warning("deadlines lost their database: %s", errors.exceptions[0])
            await asyncio.sleep(1)


async def purge_expired(log_: PostgresLog) -> None:
    """Drop the idempotency keys and sessions whose time is over, now and then. Raises psycopg.OperationalError."""
    sessions = PostgresSessions(log_.pool)
    while True:
        await log_.purge_expired()
        await sessions.purge_expired()
        await asyncio.sleep(PURGE_SECONDS)


# -- relay -------------------------------------------------------------------------------------------------------------


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
    position = 0
    while True:
        head = await log_.watcher.beyond(position)
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


# -- servers -----------------------------------------------------------------------------------------------------------


async def serve_api(settings: Settings) -> None:
    """The gateway."""
    from runtime.gateway import open_app

    async with open_core(settings) as core, open_queues(core) as queues, open_app(core, queues) as app:
        # From the first answer on, whatever happens is reacted to, though the worker may come up later.
        await asyncio.to_thread(register_reactors, core.url, core.reactors(queues))
        await _serve(_config(app, settings.host, settings.port))


async def serve_provider(settings: Settings) -> None:
    """The simulated payment provider."""
    async with open_core(settings) as core:
        app = create_provider(
            settings.home / "provider.sqlite3",
            settings.webhook_url,
            core.secrets.webhook[0],
            settings.provider_public_url or settings.provider_address,
        )
    port = urlsplit(settings.provider_address).port or settings.port + 1000
    await _serve(_config(app, settings.provider_host, port))


async def serve_fiscal(settings: Settings) -> None:
    """The simulated fiscal operator."""
    app = create_fiscal_operator(
        settings.home / "fiscal.sqlite3", settings.fiscal_public_url or settings.fiscal_address
    )
    port = urlsplit(settings.fiscal_address).port or settings.port + 2000
    await _serve(_config(app, settings.provider_host, port))


def _config(app: FastAPI, host: str, port: int) -> uvicorn.Config:
    # Whose X-Forwarded-For is believed is the gateway's to decide (LUDOTECA_TRUSTED_PROXIES), not the server's.
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )


class _Server(uvicorn.Server):
    """Leaves the signals to `run_until_stopped`: with two handlers of one signal, how it ends is a race."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(config: uvicorn.Config) -> None:
    """Serve until cancelled; then finish the requests under way, for as long as the configuration allows."""
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.should_exit = True
        await serving
        raise
