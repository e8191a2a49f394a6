"""Disclosures: personal data that was handed out as evidence or shown to an operator, for which the
shop has to answer."""

from uuid import UUID

import msgspec

from domain.errors import Invalid
from domain.events import Event, event
from domain.text import is_visible

MAX_REASON = 1_000


@event("disclosure.made.v1")
class DisclosureMade(Event, frozen=True):
    """Personal data about the `subject_kind` with the id `subject_id` was handed out, decrypted: in
    an evidence bundle, or, of an `event` or a `user`, to an operator. `person_ids` are those whom
    it is about; `reason` is the operator's."""

    subject_kind: str
    subject_id: UUID
    person_ids: tuple[UUID, ...]
    reason: str


class Disclosure(msgspec.Struct, frozen=True):
    """Of what, and why."""

    subject_kind: str
    subject_id: UUID
    reason: str


def evolve(state: Disclosure | None, event: Event) -> Disclosure | None:
    if not isinstance(event, DisclosureMade):
        return state
    return Disclosure(event.subject_kind, event.subject_id, event.reason)


def disclose(
    subject_kind: str, subject_id: UUID, person_ids: tuple[UUID, ...], reason: str
) -> list[Event]:
    """Record a disclosure before it is made. Raises Invalid("reason_required",
    "reason_too_long")."""
    if not is_visible(reason):
        raise Invalid("reason_required", "a reason is required")
    if len(reason) > MAX_REASON:
        raise Invalid("reason_too_long", f"a reason has at most {MAX_REASON} characters")
    return [
        DisclosureMade(
            subject_kind=subject_kind, subject_id=subject_id, person_ids=person_ids, reason=reason
        )
    ]
