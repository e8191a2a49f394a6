"""A claim on what must be unique: an e-mail, a seller's SKU, a wallet, an active cart, the ownership of a game.

Its stream's id is derived from what is claimed (`domain.ids.claim_id`), so two claims on one thing meet in one stream,
and the log's version check lets only one of them in. A released claim can be taken again.
"""

from typing import Literal
from uuid import UUID

import msgspec

from domain.errors import Refused
from domain.events import Event, event

Kind = Literal["email", "sku", "wallet", "cart", "ownership"]


@event("claim.taken.v1")
class ClaimTaken(Event, frozen=True):
    """The holder is whatever the thing now belongs to: a user, a game, an order, …"""

    kind: Kind
    holder_id: UUID


@event("claim.released.v1")
class ClaimReleased(Event, frozen=True):
    """The thing is free again."""

    reason: str


class Claim(msgspec.Struct, frozen=True):
    """Who holds the thing, or held it last."""

    kind: Kind
    holder_id: UUID
    held: bool


def evolve(state: Claim | None, event: Event) -> Claim | None:
    """The claim after one more event."""
    match state, event:
        case _, ClaimTaken(kind=kind, holder_id=holder_id):
            return Claim(kind, holder_id, held=True)
        case Claim(), ClaimReleased():
            return msgspec.structs.replace(state, held=False)
    return state


def take(claim: Claim | None, kind: Kind, holder_id: UUID, refusal: Refused) -> list[Event]:
    """Claim it for the holder. Raises the given refusal when it is held, be it by the same holder."""
    if claim is not None and claim.held:
        raise refusal
    return [ClaimTaken(kind=kind, holder_id=holder_id)]


def release(claim: Claim | None, holder_id: UUID, reason: str) -> list[Event]:
    """Give it up; nothing to do when this holder does not hold it."""
    if claim is None or not claim.held or claim.holder_id != holder_id:
        return []
    return [ClaimReleased(reason=reason)]
