"""Views of long work that an auditor or an operator asked for."""

from typing import Any, Literal
from uuid import UUID

import msgspec
from starlette.responses import Response

from api.answers import answer
from api.fields import Answer, Time
from api.services import Services
from domain.errors import NotFound
from queries.audit import tasks as audit_tasks
from queries.audit.tasks import AuditTask, State


class TaskView(Answer):
    """Work under way, or done. `done` of `total` are behind it in the stage at hand, `per_second`
    and `seconds_left` tell how it goes on. `error` says why it failed, and `code` the same in a
    word that programs decide by, such as `rows_differ`, `busy` or `process_died`."""

    id: UUID
    kind: Literal["whatif", "replay", "rebuild", "comparison", "verification"]
    asked: dict[str, Any]
    asked_by: str
    state: State
    begun_at: Time
    stage: str
    done: int
    total: int
    per_second: float | None
    seconds_left: float | None
    ended_at: Time | None
    error: str
    code: str
    result: Any


async def under_way(services: Services, task_id: UUID, position: int | None = None) -> Response:
    """The answer 202 with a task that was started, as recorded at a position."""
    headers = {"Location": f"/api/v1/audit/tasks/{task_id}"}
    task = await task_view(services, task_id)
    return answer(task, status=202, position=position, headers=headers)


async def task_view(services: Services, task_id: UUID) -> TaskView:
    """A task. Raises NotFound("task_not_found")."""
    found = await audit_tasks.task(services.log.pool, task_id)
    if found is None:
        raise NotFound("task_not_found", "there is no such task, or none any more")
    return view_of(found)


def view_of(task: AuditTask) -> TaskView:
    asked = msgspec.json.decode(task.asked, type=dict[str, Any])
    kind = asked.pop("type")
    return TaskView(
        id=task.id,
        kind=kind,
        asked=asked,
        asked_by=task.asked_by,
        state=task.state,
        begun_at=task.begun_at,
        stage=task.stage,
        done=task.done,
        total=task.total,
        per_second=task.per_second,
        seconds_left=task.seconds_left if task.state == "RUNNING" else None,
        ended_at=task.ended_at,
        error=task.failure,
        code=task.failure_code,
        result=None if task.result is None else msgspec.json.decode(task.result),
    )
