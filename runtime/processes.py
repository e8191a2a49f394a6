"""The processes that make up the program: each does one thing, may run on a host of its own, and stops on SIGTERM."""

import asyncio
import logging
import signal
import threading
from collections.abc import Coroutine, Sequence
from typing import Any
from urllib.parse import urlsplit

import psycopg
import uvicorn
import uvloop
from fastapi import FastAPI

from adapters.cloudevents import to_cloudevent
from adapters.provider_simulator import create_app as create_provider
from adapters.rabbitmq_relay import RabbitPublisher
from commands.deadlines import Deadlines
from domain.errors import Refused
from eventstore.log import AlreadyDone
from eventstore.postgres_log import RUN_AS
from projections import feeds
from projections.engine import Registered, Runner
from projections.leading import leading
from projections.reacting import ReactorRunner
from runtime.models import due_times, search_models, table_models
from runtime.settings import Settings
from runtime.wiring import Core, codec, open_core, open_queues

log = logging.getLogger(__name__)

RELAY_PAGE = 500


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
        reactors = ReactorRunner(core.url, core.log, core.reactors(queues), outcomes=(Refused, AlreadyDone))
        group.create_task(reactors.run())
        group.create_task(queues.payments.consume(core.payment_worker().handle, concurrency=settings.workers))
        group.create_task(queues.mail.consume(core.mail_worker().handle, concurrency=8))
        group.create_task(_fire_deadlines(core))


async def _fire_deadlines(core: Core) -> None:
    """One process of all fires deadlines; another takes over when its connection ends."""
    deadlines = Deadlines(due_times(core), core.orders, core.clock)
    while True:
        try:
            async with leading(core.url, "deadlines") as conn, asyncio.TaskGroup() as group:
                group.create_task(deadlines.run())
                while True:
                    await asyncio.to_thread(conn.execute, "SELECT 1")
                    await asyncio.sleep(1)
        except* psycopg.OperationalError as errors:
            log.warning("deadlines lost their database: %s", errors.exceptions[0])
            await asyncio.sleep(1)


# -- relay -------------------------------------------------------------------------------------------------------------


async def relay(settings: Settings) -> None:
    """Publish the log to RabbitMQ, in order, from where it left off."""
    publisher = RabbitPublisher(settings.rabbitmq_url.get_secret_value())
    async with open_core(settings) as core, leading(core.url, "relay.1") as conn:
        name = feeds.register(conn, "relay", 1, "")
        feed = feeds.feed(conn, name)
        assert feed is not None
        position = feed.position
        while True:
            head = await core.log.watcher.beyond(position)
            rows = await core.log.read_raw(position, upto=head, limit=RELAY_PAGE)
            await _publish(publisher, [(env.name, to_cloudevent(env, payload), env.event_id) for env, payload in rows])
            await asyncio.to_thread(feeds.move, conn, [(name, position, rows[-1][0].position)])
            position = rows[-1][0].position


async def _publish(publisher: RabbitPublisher, messages: Sequence[tuple[str, bytes, Any]]) -> None:
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
    await _serve(_config(app, settings.host, port))


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


async def _serve(config: uvicorn.Config) -> None:
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    try:
        await server.serve()
    except asyncio.CancelledError:
        server.should_exit = True
        if server.started:
            await server.shutdown()
        raise
