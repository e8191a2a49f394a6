"""Amendments: how an event that no fold can apply is to be read instead.

Nothing in the log can be changed. An operator declares by a further event that an event is to be
skipped, or read with a corrected payload, or as it was recorded after all. What was declared last
stands (`eventstore.amendments` tells who reads it, and when).
"""

from collections.abc import Mapping
from typing import Literal
from uuid import UUID

import msgspec

from domain.errors import Conflict, Invalid
from domain.events import Event, event
from domain.text import is_visible

Reading = Literal["as_recorded", "skip", "amend"]

AS_RECORDED: Reading = "as_recorded"


@event("amendment.declared.v1")
class AmendmentDeclared(Event, frozen=True):
    """The event at `position` (of this stream, id and name) is to be read like this from now on:
    not at all (`skip`), with this `payload` in place of its own (`amend`: JSON, personal fields
    encrypted), or as it was recorded after all (`as_recorded`). It stays in the log as it is."""

    position: int
    event_id: UUID
    stream_id: UUID
    name: str
    reading: Reading
    reason: str
    payload: str | None = None


class Amendment(msgspec.Struct, frozen=True):
    """How an event is read at present."""

    reading: Reading
    payload: str | None = None


class Amendments(msgspec.Struct, frozen=True):
    """How each event that was ever amended is read at present, by position."""

    by_position: Mapping[int, Amendment]


def evolve(state: Amendments | None, event: Event) -> Amendments | None:
    if not isinstance(event, AmendmentDeclared):
        return state
    before = {} if state is None else state.by_position
    return Amendments({**before, event.position: Amendment(event.reading, event.payload)})


def declare(state: Amendments | None, declared: AmendmentDeclared) -> list[Event]:
    """Declare how an event is to be read; nothing where it is read so already.

    Raises Invalid("reason_required"), Conflict("not_amended") for one that is to be read as it was
    recorded, and is.
    """
    if not is_visible(declared.reason):
        raise Invalid("reason_required", "a reason is required")
    before = None if state is None else state.by_position.get(declared.position)
    if before is None and declared.reading == AS_RECORDED:
        raise Conflict("not_amended", "this event was not amended: it is read as it was recorded")
    if before == Amendment(declared.reading, declared.payload):
        return []
    return [declared]
