"""Puts the gateway together, with the checks of its health and the rebuilds that it can start."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aio_pika.exceptions import AMQPError
from fastapi import FastAPI

from api.app import create_app
from api.middleware.limits import Rates
from api.services import GatewaySettings, HealthCheck, Services
from api.siblings import Siblings
from commands import aggregates
from commands.caller import Caller
from commands.ports.images import ImageStoreUnavailable
from domain.errors import Conflict
from eventstore.database.postgres import AWAY, connect
from kit.metrics import rebuild_progress
from kit.tls import Trust
from projections.engine import rebuild
from projections.engine.dropping import is_being_rebuilt
from projections.engine.runner import Registered
from queries.audit.log import Audit
from queries.audit.replays import Replays
from queries.engine.own_writes import OwnWrites
from queries.engine.past import PastTables
from queries.engine.read_models import ReadModels
from queries.engine.replica import open_replica
from queries.operations.control import Operations
from queries.search.port import SearchUnavailable
from runtime.database.instance import read_url
from runtime.gateway.audit_tasks import AuditTasks
from runtime.gateway.event_types import ProgramsEvents
from runtime.gateway.past import PastBuilder, bounds_of
from runtime.gateway.shown_settings import settings_shown
from runtime.host.children import numbered
from runtime.output import log_stream
from runtime.output.logs import dropped_lines
from runtime.output.request_log import RequestLog
from runtime.wiring.codec import codec
from runtime.wiring.core import Core
from runtime.wiring.search import all_models, open_search
from runtime.wiring.work import PAYMENTS, Queues, reactors_of

logger = logging.getLogger(__name__)

ELASTICSEARCH = "elasticsearch"
KAFKA = "kafka"
KURRENTDB, MIRROR = "kurrentdb", "mirror"
REPLICA = "replica"

_UNSEEN: tuple[type[Exception], ...] = (TimeoutError, *AWAY)

KURRENTDB_SECONDS = 0.6
"""How long KurrentDB may take to answer."""

AS_OF_WAIT_SECONDS = 10.0
"""How long a query of the past waits for its tables to be built."""

CLOCK_SECONDS = 0.5
"""How long checking the database's clock may take."""


@asynccontextmanager
async def open_app(
    core: Core, queues: Queues, siblings: Siblings | None = None
) -> AsyncIterator[FastAPI]:
    """The FastAPI application over this process's core and queues; with the processes that share
    its port."""
    settings = core.settings
    models = await asyncio.to_thread(all_models, settings)
    health: dict[str, HealthCheck] = {
        "database": lambda: _check_database(core),
        "writer": lambda: _check_writer(core),
        "clock": lambda: _check_clock(core),
    }
    builder = PastBuilder(core.url, bounds_of(settings), AS_OF_WAIT_SECONDS)
    core.stack.push_async_callback(builder.close)
    tasks = AuditTasks(core.url, core.log.pool, core.commands.acts)
    core.stack.push_async_callback(tasks.close)
    reads = ReadModels(core.log.pool, past=PastTables(core.log.pool, builder.build))
    search = await open_search(core, reads)
    if settings.elasticsearch_url.get_secret_value():
        health[ELASTICSEARCH] = lambda: search.check(reads)
    if settings.rabbitmq_url.get_secret_value():
        health["rabbitmq"] = lambda: _check_queue(queues)
    if settings.mirrored:
        health[KURRENTDB] = await _open_kurrentdb_check(core)
        health[MIRROR] = lambda: _check_mirror(core)
    if kafka := settings.kafka_url.get_secret_value():
        trust = Trust(settings.tls_ca)
        health[KAFKA] = lambda: _check_kafka(kafka, trust)
    replica = None
    if url := read_url(settings):
        replica = await core.stack.enter_async_context(
            open_replica(core.log, url, settings.pool_size)
        )
        health[REPLICA] = replica.check
    core.commands.make_all()
    rebuilder = Rebuilder(core, models)
    log_request = None
    if settings.request_log == "on":
        log_request = RequestLog(settings, numbered("api", siblings.number if siblings else 0))
        core.stack.callback(log_request.flush)
    services = Services(
        commands=core.commands,
        reads=reads,
        own_writes=OwnWrites(
            core.log,
            reads.waiter,
            [model.projection for model in models],
            reactors_of(core, queues),
        ),
        search=search,
        audit=Audit(core.log, aggregates.ALL),
        operations=Operations(
            core.log.pool, {model.projection.name: model.projection.version for model in models}
        ),
        rebuild=rebuilder.start,
        roll_back=rebuilder.roll_back,
        start_task=tasks.start,
        replays=Replays(core.url),
        event_types=ProgramsEvents(),
        log=core.log,
        repository=core.repository,
        tokens=core.tokens,
        session_ends=core.session_ends,
        clock=core.clock,
        clock_watch=core.clock_watch,
        secret=core.secrets.fingerprints,
        queues=tuple(queues.values()),
        health=health,
        optional_dependencies=frozenset({ELASTICSEARCH, KAFKA, REPLICA}),
        dependency_errors=(
            SearchUnavailable,
            ImageStoreUnavailable,
            AMQPError,
            ConnectionError,
        ),
        dropped_log_lines=lambda: log_stream.counts(dropped_lines(settings)),
        database_watch=core.log.watch,
        siblings=siblings,
        replica=replica,
        log_request=log_request,
        settings_shown=settings_shown(settings),
        mirror_lag=(lambda: _mirror_lag(core)) if settings.mirrored else None,
        settings=GatewaySettings(
            rate_limit=settings.rate_limit == "on",
            rates=Rates(ipv6_prefix=settings.rate_limit_ipv6_prefix),
            public_url=settings.api_url,
            trusted_proxies=settings.trusted_proxies,
            cors_origins=settings.cors_origins,
            alertmanager_token=settings.alertmanager_token.get_secret_value(),
        ),
    )
    # seconds of work, which must not look like a loop that stands still (`LoopWatch`)
    yield await asyncio.to_thread(create_app, services)


async def _check_database(core: Core) -> None:
    with core.log.while_there():
        await core.log.head()


async def _check_writer(core: Core) -> None:
    """Check that the log would accept appends, and that persons' keys, which appends need, can be
    read."""
    with core.log.while_there():
        await asyncio.gather(core.log.prove_writer(), core.log.keys.get(()))


async def _check_clock(core: Core) -> None:
    """Check the clock. While the database is down, the last comparison with its clock counts, as
    the clock is not at fault."""
    try:
        async with asyncio.timeout(CLOCK_SECONDS):
            with core.log.while_there():
                await core.clock_watch.check()
    except _UNSEEN:
        core.clock_watch.must_agree()


async def _open_kurrentdb_check(core: Core) -> HealthCheck:
    from adapters.kurrentdb.client import open_client  # slow to import

    client = await core.stack.enter_async_context(open_client(core.settings.kurrentdb))

    async def check() -> None:
        await client.get_commit_position(filter_exclude=(), timeout=KURRENTDB_SECONDS)

    return check


async def _check_mirror(core: Core) -> None:
    from adapters.kurrentdb.mirror_state import must_keep_up

    with core.log.while_there():
        await must_keep_up(core.log.pool)


async def _mirror_lag(core: Core) -> float:
    from adapters.kurrentdb.mirror_state import require_going

    with core.log.while_there():
        lag = await require_going(core.log.pool)
    return math.nan if lag is None else lag.total_seconds()


async def _check_queue(queues: Queues) -> None:
    await queues[PAYMENTS.queue].depth()


async def _check_kafka(url: str, trust: Trust) -> None:
    from adapters.relay.kafka import check_kafka  # of the extra `kafka`

    await check_kafka(url, trust)


class Rebuilder:
    """Rebuilds projections in the background of this process, each once at a time in all
    processes; and rolls them back."""

    def __init__(self, core: Core, models: list[Registered]) -> None:
        self._core = core
        self._models = {model.projection.name: model for model in models}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def start(self, name: str, caller: Caller, reason: str | None) -> int | None:
        """As `api.services.Rebuild`. Raises Conflict("rebuild_running")."""
        if name not in self._models:
            return None
        elsewhere = await asyncio.to_thread(self._is_rebuilt_elsewhere, name)
        task = self._running.get(name)
        if elsewhere or (task is not None and not task.done()):
            raise Conflict("rebuild_running", f"{name} is being rebuilt already")
        begun: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._running[name] = asyncio.create_task(self._run(name, caller, reason, begun))
        return await begun

    async def _run(
        self, name: str, caller: Caller, reason: str | None, begun: "asyncio.Future[int | None]"
    ) -> None:
        """Rebuild, and record that it begins and how it ends."""
        try:
            async with self._core.commands.acts.recorded(
                caller, "projection.rebuild", target=name, reason=reason
            ) as act:
                begun.set_result(act.position)
                done = await asyncio.to_thread(self._rebuild, name)
                act.affected = done.rows
                act.details = {"storage": done.storage}
        except Exception as error:
            if not begun.done():
                begun.set_exception(error)
            else:
                logger.exception("the rebuild of %s failed; the live one stays as it was", name)
        else:
            logger.info("rebuilt %s into %s at position %s", name, done.storage, done.position)

    async def roll_back(self, name: str) -> str:
        """As `api.services.RollBack`."""
        return await asyncio.to_thread(self._roll_back, name)

    def _roll_back(self, name: str) -> str:
        try:
            with connect(self._core.url, "ludoteca rebuild") as conn:
                return rebuild.rollback(conn, self._models[name])
        except (rebuild.NothingEarlier, rebuild.NeverRan) as error:
            raise Conflict("nothing_earlier", str(error)) from error
        except rebuild.CatchingUp as error:
            raise Conflict("catching_up", str(error)) from error
        except rebuild.Busy as error:
            raise Conflict("rebuild_running", str(error)) from error

    def _is_rebuilt_elsewhere(self, name: str) -> bool:
        with connect(self._core.url, "ludoteca rebuild") as conn:
            return is_being_rebuilt(conn, name)

    def _rebuild(self, name: str) -> rebuild.Rebuilt:
        with (
            rebuild_progress(name) as progress,
            connect(self._core.url, "ludoteca rebuild") as conn,
        ):
            return rebuild.rebuild(conn, codec(), self._models[name], progress)
