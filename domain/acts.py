"""Acts of operators: what somebody with power over the shop did to it beside buying and selling.

An act is recorded twice: that it begins, before anything of it is done, and how it ended. So none
is done unrecorded, wherever its process dies; one that nobody saw end may be done, or not.
What is an event of its own (an amendment, a disclosure, an adjustment) is no act besides.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from domain.errors import Conflict, Invalid
from domain.events import Event, event
from domain.named_texts import MAX_TEXT, NamedText, named_texts, shortened
from domain.text import is_visible

ActName = Literal[
    "backup.make",
    "checkpoint_key.rotate",
    "dead_letter.discard",
    "dead_letter.redrive",
    "keys.add",
    "keys.erase",
    "keys.rotate",
    "load.games",
    "load.purchases",
    "log.audit",
    "log.rebuild_tree",
    "log.verify",
    "payments.reconcile",
    "projection.drop",
    "projection.pause",
    "projection.rebuild",
    "projection.recover",
    "projection.resume",
    "projection.rollback",
    "quarantine.retry",
    "receipts.reconcile",
    "replay.ask",
    "replay.drop",
    "replay.make",
    "whatif.ask",
]
"""What can be done, as `kind.verb`."""

INTERRUPTED = "interrupted"
"""The error of an act that nobody saw end: its process died, or could not record it."""

MAX_REASON = 1_000
MAX_TARGET = 300
"""The most characters of a reason, and of what is recorded of a target."""


@event("operator.act_begun.v1")
class ActBegun(Event, frozen=True):
    """An operator, who is the event's actor, begins an `act` on the `target` (a name or an id; None
    where it is about everything), for the `reason` given. `details` tell what was asked for."""

    act: str
    target: str | None = None
    reason: str | None = None
    details: tuple[NamedText, ...] = ()


@event("operator.act_ended.v1")
class ActEnded(Event, frozen=True):
    """The act was done to `affected` things, or failed with an `error` (a code, or what went
    wrong; `interrupted` if nobody saw it end, and then it may be done). `details` tell what came of
    it."""

    affected: int | None = None
    error: str | None = None
    details: tuple[NamedText, ...] = ()


class Act(msgspec.Struct, frozen=True):
    """Whether an act has ended, as far as is known: of one that was given up nobody saw it."""

    ended: bool
    given_up: bool = False


def evolve(state: Act | None, event: Event) -> Act | None:
    match event:
        case ActBegun():
            return Act(ended=False)
        case ActEnded(error=error):
            return Act(ended=True, given_up=error == INTERRUPTED)
    return state


def begin(
    act: ActName, *, target: str | None, reason: str | None, details: Mapping[str, str]
) -> list[Event]:
    """Begin an act. Raises Invalid("reason_required") for a reason without a visible character,
    Invalid("reason_too_long")."""
    if reason is not None:
        check_reason(reason)
    return [
        ActBegun(
            act=act,
            target=None if target is None else shortened(target, MAX_TARGET),
            reason=reason,
            details=named_texts(details),
        )
    ]


def end(
    act: Act | None, *, affected: int | None, error: str | None, details: Mapping[str, str]
) -> list[Event]:
    """End an act, also one that was given up too early. No-op once it was seen to end. Raises
    Conflict("act_not_begun")."""
    if act is None:
        raise Conflict("act_not_begun", "an act cannot end that has not begun")
    if act.ended and (not act.given_up or error == INTERRUPTED):
        return []
    wrong = None if error is None else shortened(error, MAX_TEXT)
    return [ActEnded(affected=affected, error=wrong, details=named_texts(details))]


def check_reason(reason: str) -> None:
    """Raises Invalid("reason_required", "reason_too_long")."""
    if not is_visible(reason):
        raise Invalid("reason_required", "a reason has at least one visible character")
    if len(reason) > MAX_REASON:
        raise Invalid("reason_too_long", f"a reason has at most {MAX_REASON} characters")
