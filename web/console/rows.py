"""The projection stepper: a row of a read model, one event at a time."""

from starlette.responses import Response

from web import values
from web.api_client import Listed, Problem
from web.console.answers import ReadModel, Step
from web.console.entering import console_router
from web.console.figures import Figures
from web.forms import Form, number
from web.visit import Visit

router = console_router()

NEAR = 10
"""How many steps before a step are listed, and after it."""


@router.get("/console/rows")
async def show_row(visit: Visit) -> Response:
    """The row before and after one of its events, and the form that chooses both."""
    found = await visit.api.get("/api/v1/audit/models", Listed[ReadModel])
    asked = {name: visit.query(name) for name in ("model", "key", "step")}
    step = None
    if asked["model"] and asked["key"]:
        try:
            step = await _step(visit, asked)
        except Problem as problem:
            if problem.status not in {404, 422}:
                raise
            visit.form = Form(asked)
            visit.form.refuse(problem, {"id": "key"})
    return visit.page(
        "console/rows.html",
        status=422 if visit.form.is_refused else 200,
        fragment="step" if step else "",
        models=found.items,
        asked=asked,
        step=step,
        figures=Figures(step.model, step.key, step.event.position) if step else None,
        near=_near(step) if step else [],
        differences=values.compared(step.before, step.after) if step else [],
    )


async def _step(visit: Visit, asked: dict[str, str]) -> Step:
    return await visit.api.get(
        "/api/v1/audit/steps",
        Step,
        model=asked["model"],
        id=asked["key"],
        step=number(asked["step"]),
    )


def _near(step: Step) -> list[object]:
    """The steps around the one that is shown, as far as they are listed."""
    return [each for each in step.steps if abs(each.number - step.number) <= NEAR]
