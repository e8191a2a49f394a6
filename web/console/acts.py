"""What operators did: who, what, why, to how many."""

from datetime import datetime

import msgspec
from starlette.responses import Response

from web.api_client import Listed, Problem
from web.console.entering import console_router
from web.visit import Visit

router = console_router()

PER_PAGE = 50
FILTERS = ("act", "actor", "target", "status", "since", "until")


STATUSES = {
    "BEGUN": ("Under way", "accent"),
    "DONE": ("Done", "good"),
    "FAILED": ("Failed", "bad"),
    "INTERRUPTED": ("Not seen to end", "warn"),
}
"""The statuses of acts in words, and how they look."""


class Act(msgspec.Struct, frozen=True):
    """An act of an operator, which the event at `position` began."""

    position: int
    stream_id: str
    act: str
    target: str | None
    reason: str | None
    actor: str
    status: str
    affected: int | None
    error: str | None
    details: dict[str, str]
    at: datetime
    ended_at: datetime | None

    @property
    def words(self) -> str:
        """`dead_letter.redrive` as "Dead letter: redrive"."""
        thing, _, what = self.act.partition(".")
        doing = "asked for" if what == "ask" else what.replace("_", " ")
        return f"{thing.replace('_', ' ').capitalize()}: {doing}"

    @property
    def kind(self) -> str:
        """The kind of its badge."""
        return self.badge[1]

    @property
    def badge(self) -> tuple[str, str]:
        """Its status in words, and how it looks."""
        return STATUSES.get(self.status) or (self.status, "warn")

    @property
    def is_interrupted(self) -> bool:
        return self.status == "INTERRUPTED"

    @property
    def is_running(self) -> bool:
        return self.status == "BEGUN"

    @property
    def task_id(self) -> str | None:
        """The id of its task, which can be watched; None if it has no task, or its task could not
        begin."""
        return None if self.error == "audit_task_running" else self.details.get("task_id")

    @property
    def told(self) -> dict[str, str]:
        """Its details, without the id of its task."""
        return {name: text for name, text in self.details.items() if name != "task_id"}


@router.get("/console/acts")
async def show_acts(visit: Visit) -> Response:
    """The timeline, newest first, by a filter."""
    chosen = {name: visit.query(name) for name in FILTERS}
    try:
        found = await visit.api.get(
            "/api/v1/ops/acts",
            Listed[Act],
            **{name: _as_asked(name, text) for name, text in chosen.items() if text},
            limit=PER_PAGE,
            cursor=visit.query("cursor") or None,
        )
    except Problem as problem:
        if problem.status != 422:
            raise
        visit.form.refuse(problem)
        found = Listed[Act]([])
    return visit.page(
        "console/acts.html",
        status=422 if visit.form.is_refused else 200,
        fragment="timeline",
        found=found,
        chosen=chosen,
        statuses=[(status, text) for status, (text, _) in STATUSES.items()],
    )


def _as_asked(name: str, text: str) -> str:
    """The value of a filter as the API takes it. A time is typed without a zone, in UTC."""
    return f"{text}Z" if name in {"since", "until"} and not text.endswith("Z") else text
