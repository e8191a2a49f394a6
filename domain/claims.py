"""A claim on something unique: an e-mail address, a seller's SKU, a wallet, an active cart, the
ownership of a game.

The id of its stream is derived from the claimed thing (`domain.ids.claim_id`), so that two claims
on one thing meet in one stream and the log's version check admits only one of them. A released
claim can be taken again.
"""

from typing import Literal
from uuid import UUID

import msgspec

from domain.errors import Refused
from domain.events import Event, event

Kind = Literal["email", "sku", "wallet", "cart", "ownership"]
ReleaseReason = Literal[
    "account closed",
    "another currency",
    "cart thrown away",
    "checked out",
    "email changed",
    "expired",
    "forgotten",
    "order cancelled",
    "refunded",
    "retired",
    "SKU changed",
    "taken back",
]
"""Why a claim is released. The log stores these texts for ever."""


@event("claim.taken.v1")
class ClaimTaken(Event, frozen=True):
    """The claimed thing now belongs to `holder_id`: a user, a game, an order, …"""

    kind: Kind
    holder_id: UUID


@event("claim.released.v1")
class ClaimReleased(Event, frozen=True):
    """The claim was given up: the thing can be claimed again."""

    reason: str


class Claim(msgspec.Struct, frozen=True):
    """The current holder or, when `held` is false, the last one."""

    kind: Kind
    holder_id: UUID
    held: bool


def evolve(state: Claim | None, event: Event) -> Claim | None:
    match state, event:
        case _, ClaimTaken(kind=kind, holder_id=holder_id):
            return Claim(kind, holder_id, held=True)
        case Claim(), ClaimReleased():
            return msgspec.structs.replace(state, held=False)
    return state


def take(claim: Claim | None, kind: Kind, holder_id: UUID, refusal: Refused) -> list[Event]:
    """Claim the thing for the holder. Raises `refusal` when it is held, even by the same holder."""
    if claim is not None and claim.held:
        raise refusal
    return [ClaimTaken(kind=kind, holder_id=holder_id)]


def release(claim: Claim | None, holder_id: UUID, reason: ReleaseReason) -> list[Event]:
    """Give the claim up. No-op unless this holder has it."""
    if claim is None or not claim.held or claim.holder_id != holder_id:
        return []
    return [ClaimReleased(reason=reason)]
