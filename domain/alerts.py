"""Alerts: something is wrong with the shop, and somebody has to look.

An alert is raised for a name and its labels; it is acknowledged by who looks after it, and resolved
when what it tells of is over. It may be raised again.
"""

from collections.abc import Mapping
from typing import Literal
from uuid import UUID

import msgspec

from domain.errors import Conflict, Invalid
from domain.events import Event, event
from domain.ids import derived
from domain.named_texts import MAX_NAME, MAX_TEXT, NamedText, named_texts, shortened
from domain.text import is_visible

Status = Literal["RAISED", "ACKNOWLEDGED", "RESOLVED"]
Severity = Literal["critical", "warning"]


@event("alert.raised.v1")
class AlertRaised(Event, frozen=True):
    """The `source` (the shop itself, or Alertmanager) sees what `name` stands for, on what the
    `labels` tell. `runbook` is the section of docs/runbooks/alerts.md, or a URL; empty without
    one."""

    name: str
    labels: tuple[NamedText, ...]
    source: str
    severity: str
    summary: str
    runbook: str = ""


@event("alert.acknowledged.v1")
class AlertAcknowledged(Event, frozen=True):
    """The event's actor looks after the alert; `note` is theirs."""

    note: str


@event("alert.resolved.v1")
class AlertResolved(Event, frozen=True):
    """What the alert told of is over."""


class Alert(msgspec.Struct, frozen=True):
    """Whether it is raised, and whether somebody looks after it."""

    status: Status


class Seen(msgspec.Struct, frozen=True):
    """What a source sees: see AlertRaised."""

    source: str
    name: str
    labels: Mapping[str, str]
    severity: Severity
    summary: str
    runbook: str = ""

    @property
    def alert_id(self) -> UUID:
        """The stream of all that was ever seen under this name with these labels."""
        labels = [f"{name}={self.labels[name]}" for name in sorted(self.labels)]
        return derived("alert", self.source, self.name, *labels)


def evolve(state: Alert | None, event: Event) -> Alert | None:
    match event:
        case AlertRaised():
            return Alert("RAISED")
        case AlertAcknowledged():
            return Alert("ACKNOWLEDGED")
        case AlertResolved():
            return Alert("RESOLVED")
    return state


def raise_alert(alert: Alert | None, seen: Seen) -> list[Event]:
    """Raise an alert. No-op while it is raised or acknowledged."""
    if alert is not None and alert.status != "RESOLVED":
        return []
    return [
        AlertRaised(
            name=shortened(seen.name, MAX_NAME),
            labels=named_texts(seen.labels),
            source=seen.source,
            severity=seen.severity,
            summary=shortened(seen.summary, MAX_TEXT),
            runbook=shortened(seen.runbook, MAX_TEXT),
        )
    ]


def acknowledge(alert: Alert, note: str) -> list[Event]:
    """Look after an alert. Raises Conflict("alert_resolved"), Conflict("alert_acknowledged"),
    Invalid("note_required", "note_too_long")."""
    if not is_visible(note):
        raise Invalid("note_required", "a note has at least one visible character")
    if len(note) > MAX_TEXT:
        raise Invalid("note_too_long", f"a note has at most {MAX_TEXT} characters")
    if alert.status == "RESOLVED":
        raise Conflict("alert_resolved", "what this alert told of is over")
    if alert.status == "ACKNOWLEDGED":
        raise Conflict("alert_acknowledged", "somebody looks after this alert already")
    return [AlertAcknowledged(note=note)]


def resolve(alert: Alert | None) -> list[Event]:
    """Resolve an alert. No-op unless it is raised or acknowledged."""
    if alert is None or alert.status == "RESOLVED":
        return []
    return [AlertResolved()]
