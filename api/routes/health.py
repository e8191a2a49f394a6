"""Probes and metrics."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from api import figures
from api.answers import answer
from api.auth import EVERYBODY
from api.fields import Answer
from api.middleware.metrics import Metrics
from api.services import HealthCheck, Services, ServicesOf
from eventstore.database.postgres import AWAY

logger = logging.getLogger(__name__)

router = APIRouter(tags=["health"], dependencies=[EVERYBODY])

CHECK_SECONDS = 0.7
"""How long each check may take. All run at once, so that the answer takes less than a second."""

_UNSEEN: tuple[type[Exception], ...] = (*AWAY, TimeoutError)

T = TypeVar("T")

State = Literal["ok", "down"]
Readiness = Literal["ok", "degraded", "catching_up", "down"]


class Alive(Answer):
    status: State = "ok"


class Dependency(Answer):
    status: State


class Catching(Answer):
    """A read model's position, and the position that it must reach before it can be read."""

    position: int
    upto: int


class Ready(Answer):
    """The state of each dependency of this program. With `degraded`, a dependency is down that the
    program can do without."""

    status: Readiness
    dependencies: dict[str, Dependency]


class NotReady(Ready):
    """With `catching_up`, the named read models (new versions, or lost ones) cannot be read yet."""

    read_models: dict[str, Catching]


@router.get("/health/live", response_model=Alive)
async def live() -> Response:
    """Report that the process is running."""
    return answer(Alive())


@router.get("/health/ready", response_model=Ready, responses={503: {"model": Ready | NotReady}})
async def ready(services: ServicesOf) -> Response:
    """Report whether the process can serve requests. 503 while a required dependency is down, while
    read models catch up, or if a consumer of the log read another history than the log has
    (docs/operations.md)."""
    states, astray, catching = await asyncio.gather(
        asyncio.gather(*(_state(name, check) for name, check in services.health.items())),
        _seen(services, services.operations.astray),
        _seen(services, services.reads.catching_up),
    )
    dependencies = {
        name: Dependency(status=state) for name, state in zip(services.health, states, strict=True)
    }
    if astray is None or catching is None:  # it may accept connections, but queries get no answer
        dependencies["database"] = Dependency(status="down")
    down = {name for name, each in dependencies.items() if each.status == "down"}
    for name in astray or ():
        dependencies[f"consumer {name}"] = Dependency(status="down")
        down.add(f"consumer {name}")
    if down - services.optional_dependencies:
        return answer(Ready(status="down", dependencies=dependencies), status=503)
    if catching:
        found = {
            name: Catching(position=each.position, upto=each.upto)
            for name, each in catching.items()
        }
        return answer(
            NotReady(status="catching_up", dependencies=dependencies, read_models=found), status=503
        )
    return answer(Ready(status="degraded" if down else "ok", dependencies=dependencies))


async def _seen(services: Services, look: Callable[[], Awaitable[T]]) -> T | None:
    """What `look` finds in the database; None if the database does not answer in time."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            with services.while_there():
                return await look()
    except _UNSEEN as error:
        logger.warning("readiness could not ask the database: %r", error)
        return None


async def _state(name: str, check: HealthCheck) -> State:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except Exception as error:  # whatever was raised, the dependency is not working
        logger.warning("%s is down: %r", name, error)
        return "down"
    return "ok"


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request, services: ServicesOf) -> Response:
    """Return the metrics in Prometheus' text format. Those of a dependency that is down are left
    out, as metrics are needed most during an outage."""
    consumers, found, _, lag, audited, due = await asyncio.gather(
        figures.consumers(services),
        asyncio.gather(*map(figures.jobs, services.queues)),
        _state("clock", services.clock_watch.check),
        figures.mirror_lag(services),
        figures.audited(services),
        figures.deadlines(services),
    )
    shown: Metrics = request.app.state.metrics
    queues = {
        queue.name: jobs
        for queue, jobs in zip(services.queues, found, strict=True)
        if jobs is not None
    }
    shown.audited(*audited)
    shown.late(consumers.late, {name: jobs.oldest for name, jobs in queues.items()})
    shown.deadlines(due.due, due.late_seconds)
    if lag is not None:
        shown.mirror(lag)
    shown.clock_ahead.set(services.clock_watch.ahead.total_seconds())
    text = shown.render(
        consumers.head,
        consumers.states,
        {name: (jobs.depth, jobs.dead) for name, jobs in queues.items()},
        services.dropped_log_lines(),
    )
    return Response(text, media_type=CONTENT_TYPE_LATEST)
