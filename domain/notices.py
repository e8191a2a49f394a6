"""Signed notices of others (the payment provider, a carrier), kept as they were received.

What a notice changes is recorded by its payment or shipment. Its text is evidence only: it has a
stream of its own, so that no decision reads it.
"""

from hashlib import sha256
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from domain.events import PERSONAL, Event, event
from kit.card_numbers import has_card_number

MAX_BODY_BYTES = 64 * 1024
"""How much of a body is kept. Providers send some thousand bytes."""

About = Literal["payment", "shipment"]
Withheld = Literal["forgotten", "card_number"]
"""Why a notice was kept without what was received: its person had been forgotten already, or
something in it looked like a card number."""


class SignedBody(msgspec.Struct, frozen=True):
    """What came: a body, and the header with its signature."""

    body: bytes
    signature: str


class Received(msgspec.Struct, frozen=True, omit_defaults=True):
    """A body and its signature, as they came. Of a body of more than MAX_BODY_BYTES the beginning,
    of one that is not UTF-8 what is; then `sha256` is that of the whole, in hex."""

    body: str
    signature: str
    sha256: str = ""


@event("notice.kept.v1", person="user_id")
class NoticeKept(Event, frozen=True):
    """A signed notice was kept as it was received: the body, of `body_bytes`, and its signature
    header. `user_id` is the buyer, `sender` the payment provider or `carrier`, `about_id` the
    payment or the shipment."""

    user_id: UUID
    sender: str
    about: About
    about_id: UUID
    body_bytes: int
    provider_event_id: str | None = None
    received: Annotated[Received | None, PERSONAL] = None
    withheld: Withheld | None = None


class Notice(msgspec.Struct, frozen=True):
    """Whom a kept notice is from, and what it is about."""

    sender: str
    about: About
    about_id: UUID


def evolve(state: Notice | None, event: Event) -> Notice | None:
    if not isinstance(event, NoticeKept):
        return state
    return Notice(event.sender, event.about, event.about_id)


def keep(
    state: Notice | None,
    came: SignedBody,
    *,
    user_id: UUID,
    sender: str,
    about: About,
    about_id: UUID,
    provider_event_id: str | None,
    forgotten: bool,
) -> list[Event]:
    """Keep a notice, once, as it was received. Of a `forgotten` person, or if it has a card number,
    only that it was received."""
    if state is not None:
        return []
    received: Received | None = None if forgotten else _received(came)
    withheld: Withheld | None = "forgotten" if forgotten else None
    if received is not None and has_card_number(received.body):
        received, withheld = None, "card_number"
    return [
        NoticeKept(
            user_id=user_id,
            sender=sender,
            about=about,
            about_id=about_id,
            body_bytes=len(came.body),
            provider_event_id=provider_event_id,
            received=received,
            withheld=withheld,
        )
    ]


def _received(came: SignedBody) -> Received:
    kept = came.body[:MAX_BODY_BYTES].decode(errors="ignore")
    whole = kept.encode() == came.body
    return Received(kept, came.signature, "" if whole else sha256(came.body).hexdigest())
