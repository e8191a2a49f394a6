"""Acting on everything that a filter shows, for operators: dead letters and quarantined streams.

A filter shows what there was `before` a moment. What it shows can only become less: a job that dies
again, or a stream that is put into quarantine again, is there since later. So as many as expected
are the same as were shown, and what came since is not touched.
"""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import Response

from api.answers import answer
from api.auth import Admin, Auditor
from api.fields import REASON, Answer, Body, Moment, Reason, SingleLine, Time
from api.problems import Problem
from api.services import Services, ServicesOf
from commands.dead_letters import discard
from commands.ports.queue import DeadLetter
from queries.operations.control import Selection
from queries.trace.undone import left_undone

router = APIRouter(prefix="/api/v1/ops", tags=["operations"])

MOST = 1_000
"""How many a filter shows at most, of each queue the oldest."""

MOST_LOOKED_AT = 100_000
"""Among how many dead letters of a queue a filter looks."""

Text = Annotated[str | None, Query(max_length=200)]
Before = Annotated[
    Moment | None, Query(description="Only what was there before; by default everything.")
]


class QueueView(Answer):
    """A queue: how many jobs wait or are in progress, and how many are dead."""

    name: str
    depth: int
    dead: int


class LetterView(Answer):
    """A job that exhausted its attempts, and its last error. `undone` says what would be left
    undone if it were discarded."""

    id: UUID
    queue: str
    kind: str
    body: dict[str, str]
    error: str
    attempts: int
    died_at: Time | None
    undone: str


class DeadLetterSelection(Answer):
    """What a filter shows, the oldest first; there may be `more`. `before` binds an act to it."""

    count: int
    more: bool
    before: Time
    queues: list[QueueView]
    items: list[LetterView]


class StreamView(Answer):
    """A stream in quarantine: `feed` could not apply its event `name` at `position`."""

    id: UUID
    feed: str
    stream_id: UUID
    position: int
    name: str
    error: str
    since: Time
    attempts: int
    retry: bool


class QuarantineSelection(Answer):
    """What a filter shows, in the order of the log."""

    count: int
    more: bool
    before: Time
    items: list[StreamView]


class LettersBody(Body):
    """A filter, the moment to which it was bound, and how many it showed."""

    queue: SingleLine | None = None
    kind: SingleLine | None = None
    error: SingleLine | None = None
    id: UUID | None = None
    before: Moment
    expected: Annotated[int, Field(strict=True, ge=1, le=MOST)]
    reason: Reason | None = Field(None, description=REASON)


class DiscardLettersBody(LettersBody):
    """As for redriving, but nobody does these jobs any more: so the reason is required."""

    reason: Reason = Field(description=REASON)


class StreamsBody(Body):
    """A filter, the moment to which it was bound, and how many it showed."""

    feed: SingleLine | None = None
    name: SingleLine | None = None
    error: SingleLine | None = None
    before: Moment
    expected: Annotated[int, Field(strict=True, ge=1, le=MOST)]
    reason: Reason | None = Field(None, description=REASON)


class Acted(Answer):
    """How many were acted on, and how many had gone meanwhile."""

    done: int
    gone: int


# -- dead letters ----------------------------------------------------------------------------------


@router.get("/dead-letters/selection", response_model=DeadLetterSelection)
async def select_dead_letters(
    services: ServicesOf,
    _: Auditor,
    queue: Text = None,
    kind: Text = None,
    error: Annotated[Text, Query(description="A part of the error.")] = None,
    id: Annotated[UUID | None, Query(description="The job's.")] = None,
    before: Before = None,
) -> Response:
    """List the dead letters that a filter shows, and count them. Requires AUDITOR or ADMIN."""
    moment = before or services.clock.now()
    letters, more = await _letters(services, queue, kind, error, id, moment)
    undone = await left_undone(services.reads, letters)
    view = DeadLetterSelection(
        count=len(letters),
        more=more,
        before=moment,
        queues=[
            QueueView(name=each.name, depth=await each.depth(), dead=await each.dead())
            for each in services.queues
        ],
        items=[_letter(each, undone[each.job.id]) for each in letters],
    )
    return answer(view)


@router.post("/dead-letters/redrive", response_model=Acted)
async def redrive_selected(body: LettersBody, services: ServicesOf, caller: Admin) -> Response:
    """Put all dead letters that a filter showed back into their queues, with fresh attempts.
    Requires ADMIN.

    Errors: 409 `selection_changed` with the `count` that the filter shows now: nothing was done.
    """
    letters = await _chosen(services, body)
    chosen = {
        queue.name: [each.job.id for each in letters if each.queue == queue.name]
        for queue in services.queues
    }
    async with services.commands.acts.recorded(
        caller, "dead_letter.redrive", reason=body.reason, details=_filters(body)
    ) as act:
        act.affected = 0
        for queue in services.queues:
            if chosen[queue.name]:
                act.affected += len(await queue.redrive_all(chosen[queue.name]))
    done = act.affected
    return answer(Acted(done=done, gone=len(letters) - done), position=act.position)


@router.post("/dead-letters/discard", response_model=Acted)
async def discard_selected(
    body: DiscardLettersBody, services: ServicesOf, caller: Admin
) -> Response:
    """Delete all dead letters that a filter showed: nobody does these jobs any more. The log keeps
    what each was about. Requires ADMIN.

    Errors: 409 `selection_changed` with the `count` that the filter shows now: nothing was done.
    """
    letters = await _chosen(services, body)
    acts, queues = services.commands.acts, services.queues
    done = len(await discard(acts, caller, body.reason, queues, letters))
    return answer(Acted(done=done, gone=len(letters) - done))


async def _chosen(services: Services, body: LettersBody) -> list[DeadLetter]:
    """What the filter showed. Raises Problem("selection_changed")."""
    letters, _more = await _letters(
        services, body.queue, body.kind, body.error, body.id, body.before
    )
    _must_be(len(letters), body.expected)
    return letters


async def _letters(
    services: Services,
    queue: str | None,
    kind: str | None,
    error: str | None,
    job_id: UUID | None,
    before: datetime,
) -> tuple[list[DeadLetter], bool]:
    """What the filter shows, and whether there may be more. A broker that does not tell when a job
    died shows it at any time."""
    is_chosen = kind is not None or job_id is not None or error
    most = MOST_LOOKED_AT if is_chosen else MOST
    shown: list[DeadLetter] = []
    more = False
    for each in services.queues:
        if queue not in {None, each.name}:
            continue
        letters = await each.dead_letters(most + 1)
        more = more or len(letters) > most
        shown += [
            letter
            for letter in letters[:most]
            if kind in {None, letter.job.kind}
            and job_id in {None, letter.job.id}
            and (error or "").lower() in letter.error.lower()
            and (letter.died_at is None or letter.died_at < before)
        ]
    return shown[:MOST], more or len(shown) > MOST


def _letter(letter: DeadLetter, undone: str) -> LetterView:
    return LetterView(
        id=letter.job.id,
        queue=letter.queue,
        kind=letter.job.kind,
        body=dict(letter.job.body),
        error=letter.error,
        attempts=letter.attempts,
        died_at=letter.died_at,
        undone=undone,
    )


# -- quarantine ------------------------------------------------------------------------------------


@router.get("/quarantine/selection", response_model=QuarantineSelection)
async def select_quarantined(
    services: ServicesOf,
    _: Auditor,
    feed: Text = None,
    name: Text = None,
    error: Annotated[Text, Query(description="A part of the error.")] = None,
    before: Before = None,
) -> Response:
    """List the streams in quarantine that a filter shows, and count them. Requires AUDITOR or
    ADMIN."""
    moment = before or services.clock.now()
    selection = Selection(feed, name, error, moment)
    found = await services.operations.selected(selection, MOST + 1)
    view = QuarantineSelection(
        count=min(len(found), MOST),
        more=len(found) > MOST,
        before=moment,
        items=[StreamView.model_validate(each) for each in found[:MOST]],
    )
    return answer(view)


@router.post("/quarantine/retry", status_code=202, response_model=Acted)
async def retry_selected(body: StreamsBody, services: ServicesOf, caller: Admin) -> Response:
    """Request another attempt at all streams in quarantine that a filter showed. Requires ADMIN.

    Errors: 409 `selection_changed` with the `count` that the filter shows now: nothing was done.
    """
    selection = Selection(body.feed, body.name, body.error, body.before)
    async with services.commands.acts.recorded(
        caller, "quarantine.retry", reason=body.reason, details=_filters(body)
    ) as act:
        count = await services.operations.retry_selected(selection, body.expected, MOST)
        _must_be(count, body.expected)
        act.affected = count
    return answer(Acted(done=count, gone=0), status=202, position=act.position)


def _filters(body: LettersBody | StreamsBody) -> dict[str, str]:
    """What was chosen, as the record of the act has it."""
    chosen = body.model_dump(exclude={"expected", "reason"}, exclude_none=True)
    return {name: str(value) for name, value in chosen.items()}


def _must_be(count: int, expected: int) -> None:
    if count != expected:
        raise Problem(
            409,
            "selection_changed",
            f"the filter shows {count} now, not {expected}: nothing was done",
            count=count,
        )
