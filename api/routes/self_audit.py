"""The shop's audit of itself: the last looks at what must always hold, and what did not."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.answers import answer, page_answer
from api.auth import Auditor
from api.fields import Answer, Page, Time
from api.reading import Cursor, Limit, LogPosition, Reads
from api.services import ServicesOf
from queries.operations import findings, self_audit

router = APIRouter(prefix="/api/v1/audit", tags=["audit"])


class LookView(Answer):
    """The last look at an invariant, at a `sample` or at the `whole`: when, for how long, at which
    positions, and how many subjects; how many violated the invariant, and how many could not be
    judged yet, as what follows from the latest events was not done. With a `failure`, it could not
    be looked at."""

    looked_at: Time
    seconds: float
    head: int
    after: int
    upto: int
    checked: int
    violations: int
    unsettled: int
    failure: str


class InvariantView(Answer):
    """An invariant, how many findings of it are open, and the last looks at it."""

    invariant: str
    meaning: str
    open_findings: int
    sample: LookView | None
    whole: LookView | None


class SelfAuditView(Answer):
    """Whether everything held that was looked at last; nothing is known before the first look."""

    holds: bool | None
    invariants: list[InvariantView]


class FindingView(Answer):
    """An invariant that does not hold for a subject (OPEN), or did not (RESOLVED), since when, and
    how often it was found. `found_at` is a log position."""

    finding_id: UUID
    invariant: str
    subject: str
    detail: str
    status: str
    times: int
    found_at: int
    opened_at: Time
    resolved_at: Time | None


@router.get("/self", response_model=SelfAuditView)
async def get_self_audit(
    services: ServicesOf, reads: Reads, _: Auditor, head: LogPosition
) -> Response:
    """Return what the shop's audit of itself looked at last, and what it found. Requires AUDITOR or
    ADMIN."""
    counts = (await findings.open_by_invariant(reads)).value
    found: dict[str, InvariantView] = {}
    for look in await self_audit.looks(services.log.pool):
        view = found.setdefault(
            look.invariant,
            InvariantView(
                invariant=look.invariant,
                meaning=look.meaning,
                open_findings=counts.pop(look.invariant, 0),
                sample=None,
                whole=None,
            ),
        )
        setattr(view, look.scope, LookView.model_validate(look))
    failed = any(
        one is not None and one.failure
        for each in found.values()
        for one in (each.sample, each.whole)
    )
    holds = not (counts or failed or any(each.open_findings for each in found.values()))
    body = SelfAuditView(holds=holds if found else None, invariants=list(found.values()))
    return answer(body, position=head)


@router.get("/findings", response_model=Page[FindingView])
async def list_findings(
    request: Request,
    reads: Reads,
    _: Auditor,
    status: Literal["OPEN", "RESOLVED"] | None = None,
    invariant: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List what did not hold, the newest first. Requires AUDITOR or ADMIN."""
    found = await findings.findings(
        reads, status=status, invariant=invariant, limit=limit, cursor=cursor
    )
    page = Page[FindingView].model_validate(
        {"items": found.value.items, "next_cursor": found.value.next_cursor}
    )
    return page_answer(request, page, found.position)
