"""The shop's audit of itself: what must always hold, when it was looked at, and what did not."""

from datetime import datetime

import msgspec
from starlette.responses import Response

from web.api_client import Listed
from web.console.entering import console_router
from web.visit import Visit

router = console_router()

PER_PAGE = 50


class Look(msgspec.Struct, frozen=True):
    looked_at: datetime
    seconds: float
    checked: int
    violations: int
    unsettled: int
    failure: str


class Invariant(msgspec.Struct, frozen=True):
    invariant: str
    meaning: str
    open_findings: int
    sample: Look | None
    whole: Look | None

    @property
    def latest(self) -> Look | None:
        """The last look, at a sample or at everything."""
        looks = [each for each in (self.sample, self.whole) if each is not None]
        return max(looks, key=lambda each: each.looked_at, default=None)


class SelfAudit(msgspec.Struct, frozen=True):
    holds: bool | None
    invariants: list[Invariant]


class Finding(msgspec.Struct, frozen=True):
    invariant: str
    subject: str
    detail: str
    status: str
    times: int
    found_at: int
    opened_at: datetime
    resolved_at: datetime | None


@router.get("/console/self-audit")
async def show_self_audit(visit: Visit) -> Response:
    """The invariants, and the findings; `all` shows those that are resolved, too."""
    audit = await visit.api.get("/api/v1/audit/self", SelfAudit)
    shows_all = visit.query("all") == "yes"
    findings = await visit.api.get(
        "/api/v1/audit/findings",
        Listed[Finding],
        status=None if shows_all else "OPEN",
        limit=PER_PAGE,
        cursor=visit.query("cursor") or None,
    )
    return visit.page(
        "console/self_audit.html", audit=audit, findings=findings, shows_all=shows_all
    )
