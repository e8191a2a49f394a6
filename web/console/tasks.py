"""Long work for auditors: what would have been under other rules, the shop as it was, and whether
the log is as it was appended."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from starlette.responses import Response

from web.api_client import Listed, Problem
from web.console.acting import may_act, reason_of
from web.console.entering import console_router
from web.console.moments import in_utc
from web.forms import number
from web.visit import Visit

router = console_router()


class Task(msgspec.Struct, frozen=True):
    """Work under way, or done. `result` depends on its kind."""

    id: str
    kind: str
    asked: dict[str, Any]
    asked_by: str
    state: str
    begun_at: datetime
    stage: str
    done: int
    total: int
    per_second: float | None
    seconds_left: float | None
    ended_at: datetime | None
    error: str
    code: str
    result: dict[str, Any] | None

    @property
    def is_running(self) -> bool:
        return self.state == "RUNNING"

    @property
    def look(self) -> str:
        """How its state looks."""
        return {"DONE": "good", "FAILED": "bad"}.get(self.state, "accent")

    @property
    def differed(self) -> bool:
        """Whether a rebuild was not taken, as its rows differ from the live ones."""
        return self.code == "rows_differ"

    @property
    def title(self) -> str:
        """What it is, in words."""
        subject = str(self.asked.get("projection", ""))
        return {
            "whatif": "What if",
            "replay": f"The shop at position {self.asked.get('position', '')}",
            "rebuild": f"Rebuild of {subject}",
            "comparison": f"Comparison of {subject} with the log",
            "verification": "Verification of the log",
        }.get(self.kind, self.kind)


class Replay(msgspec.Struct, frozen=True):
    """Read models as they were at a position."""

    position: int
    state: str
    made_at: datetime
    bytes: int
    read_models: int


@router.get("/console/tasks")
async def show_tasks(visit: Visit) -> Response:
    """The tasks, and the replays that are there."""
    return await _tasks_page(visit)


async def _tasks_page(visit: Visit, status: int = 200) -> Response:
    tasks = await visit.api.get("/api/v1/audit/tasks", Listed[Task])
    replays = await visit.api.get("/api/v1/audit/replays", Listed[Replay])
    return visit.page(
        "console/tasks.html",
        status=status,
        fragment="tasks",
        tasks=tasks.items,
        replays=replays.items,
        may_act=may_act(visit),
    )


@router.get("/console/tasks/{task_id}")
async def show_task(visit: Visit) -> Response:
    """A task, while it goes on and with its result."""
    path = f"/api/v1/audit/tasks/{visit.id('task_id')}"
    return visit.page("console/task.html", fragment="task", task=await visit.api.get(path, Task))


@router.post("/console/tasks/whatif")
async def ask_what_if(visit: Visit) -> Response:
    """Decide again under other rules."""
    body: dict[str, object] = {"from": in_utc(visit.form.text("from"))}
    if visit.form.text("until"):
        body["until"] = in_utc(visit.form.text("until"))
    for name in ("platform_fee_bps", "low_stock"):
        if typed := visit.form.text(name):
            whole = number(typed)
            body[name] = typed if whole is None else whole
    return await _start(visit, "/api/v1/audit/whatif", body)


@router.post("/console/tasks/replays")
async def make_replay(visit: Visit) -> Response:
    """Build all read models as they were."""
    body: dict[str, object] = {"until": in_utc(visit.form.text("moment"))}
    return await _start(visit, "/api/v1/audit/replays", body, {"until": "moment"})


async def _start(
    visit: Visit, path: str, body: dict[str, object], names: Mapping[str, str] | None = None
) -> Response:
    reason = reason_of(visit)
    if reason is None:
        return await _tasks_page(visit, status=422)
    try:
        task = await visit.api.post(path, {**body, "reason": reason}, Task)
    except Problem as problem:
        visit.form.refuse(problem, names)
        return await _tasks_page(visit, status=problem.status)
    return visit.go(f"/console/tasks/{task.id}")


@router.post("/console/tasks/replays/{position}/drop")
async def drop_replay(visit: Visit) -> Response:
    """Drop read models as they were."""
    position = visit.part("position")
    reason = reason_of(visit)
    if reason is None:
        return await _tasks_page(visit, status=422)
    try:
        await visit.api.delete(f"/api/v1/audit/replays/{position}", reason=reason)
    except Problem as problem:
        visit.form.refuse(problem)
        return await _tasks_page(visit, status=problem.status)
    return visit.go("/console/tasks", f"The replay of position {position} is dropped.")
