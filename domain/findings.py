"""Findings of the shop's audit of itself: an invariant that does not hold for one subject.

A finding is open from the moment that it was seen until it is seen to be gone; it may open again.
"""

from typing import Literal
from uuid import UUID

import msgspec

from domain.events import Event, event
from domain.ids import derived

Status = Literal["OPEN", "RESOLVED"]

MAX_DETAIL = 1_000
"""The most characters that are recorded of what was found."""


@event("audit.finding_opened.v1")
class FindingOpened(Event, frozen=True):
    """The `invariant` does not hold for the `subject` (ids, or a read model and the key of a row),
    as seen at the log position `at`. `detail` tells what was found."""

    invariant: str
    subject: str
    detail: str
    at: int


@event("audit.finding_resolved.v1")
class FindingResolved(Event, frozen=True):
    """The invariant holds for the subject again, as seen at the log position `at`."""

    invariant: str
    subject: str
    at: int


class Finding(msgspec.Struct, frozen=True):
    invariant: str
    subject: str
    status: Status


def finding_id(invariant: str, subject: str) -> UUID:
    """The stream of all that was ever found about an invariant and a subject."""
    return derived("audit.finding", invariant, subject)


def evolve(state: Finding | None, event: Event) -> Finding | None:
    match event:
        case FindingOpened():
            return Finding(event.invariant, event.subject, "OPEN")
        case FindingResolved():
            return Finding(event.invariant, event.subject, "RESOLVED")
    return state


def open_finding(
    finding: Finding | None, *, invariant: str, subject: str, detail: str, at: int
) -> list[Event]:
    """Open a finding. No-op while it is open."""
    if finding is not None and finding.status == "OPEN":
        return []
    shortened = detail if len(detail) <= MAX_DETAIL else detail[: MAX_DETAIL - 1] + "…"
    return [FindingOpened(invariant=invariant, subject=subject, detail=shortened, at=at)]


def resolve(finding: Finding | None, at: int) -> list[Event]:
    """Resolve a finding. No-op unless it is open."""
    if finding is None or finding.status != "OPEN":
        return []
    return [FindingResolved(invariant=finding.invariant, subject=finding.subject, at=at)]
