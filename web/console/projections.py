"""Read models, reactors and the relay: how far they are, pausing them, and rebuilding read
models."""

from datetime import datetime
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from web.api_client import Listed, Nothing, Problem
from web.console.acting import may_act, reason_of
from web.console.entering import console_router
from web.console.tasks import Task
from web.visit import Visit

router = console_router()


class Feed(msgspec.Struct, frozen=True):
    """A subscription."""

    feed: str
    version: int
    storage: str
    state: str
    position: int
    lag: int | None
    behind_seconds: float | None
    ready_at: int | None
    led_by: str | None
    paused: bool
    parked: int
    refused: int
    updated_at: datetime


class Consumer(Feed, frozen=True, kw_only=True):
    """A read model, a reactor or the relay."""

    name: str
    head: int
    keeps_rows: bool
    known: bool
    goes_back: bool
    feeds: list[Feed]


@router.get("/console/projections")
async def show_projections(visit: Visit) -> Response:
    """All consumers of the log."""
    found = await visit.api.get("/api/v1/ops/consumers", Listed[Consumer])
    return visit.page("console/projections.html", fragment="consumers", consumers=found.items)


@router.get("/console/projections/{name}")
async def show_projection(visit: Visit) -> Response:
    """One consumer of the log, and what is done with it."""
    return await _projection_page(visit)


async def _projection_page(visit: Visit, status: int = 200) -> Response:
    name = visit.part("name")
    consumer = await visit.api.get(f"/api/v1/ops/consumers/{name}", Consumer)
    tasks: list[Task] = []
    if consumer.keeps_rows:
        found = await visit.api.get("/api/v1/audit/tasks", Listed[Task])
        tasks = [each for each in found.items if each.asked.get("projection") == name]
    return visit.page(
        "console/projection.html",
        status=status,
        fragment="moving",
        consumer=consumer,
        task=tasks[0] if tasks else None,
        may_act=may_act(visit),
    )


@router.post("/console/projections/{name}/pause")
async def pause(visit: Visit) -> Response:
    """Pause the consumer."""
    return await _act(visit, "pause", "It is paused, and falls behind from now on.")


@router.post("/console/projections/{name}/resume")
async def resume(visit: Visit) -> Response:
    """Resume the consumer."""
    return await _act(visit, "resume", "It goes on where it stopped.")


@router.post("/console/projections/{name}/rollback")
async def roll_back(visit: Visit) -> Response:
    """Return to the storage before the last rebuild."""
    notice = "Queries read the rows of before the last rebuild again."
    return await _act(visit, "rollback", notice)


@router.post("/console/projections/{name}/rebuilds")
async def rebuild(visit: Visit) -> Response:
    """Rebuild the read model beside the live one, and lead to the task."""
    replace = visit.form.text("replace") == "yes"
    return await _act(visit, "rebuilds", "The rebuild has begun.", replace=replace)


@router.post("/console/projections/{name}/comparisons")
async def compare(visit: Visit) -> Response:
    """Compare the rows with the log. Nothing changes, so no reason is asked for."""
    name = visit.part("name")
    try:
        await visit.api.post(f"/api/v1/ops/projections/{name}/comparisons", None, Nothing)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _projection_page(visit, status=problem.status)
    return visit.go(_path(name), "The comparison has begun.")


async def _act(visit: Visit, act: str, notice: str, **body: object) -> Response:
    name = visit.part("name")
    reason = reason_of(visit)
    if reason is None:
        return await _projection_page(visit, status=422)
    path = f"/api/v1/ops/projections/{name}/{act}"
    try:
        await visit.api.post(path, {**body, "reason": reason}, Nothing)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _projection_page(visit, status=problem.status)
    return visit.go(_path(name), notice)


def _path(name: str) -> str:
    return f"/console/projections/{quote(name)}"
