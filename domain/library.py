"""The games that a person owns: each at most once, and each by the order that paid for it.

The stream's id is derived from the person's (`domain.ids.library_id`). Adding or removing by the same order again
changes nothing.
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec
from rpds import HashTrieMap

from domain.errors import Conflict
from domain.events import Event, event


@event("library.game.added.v1")
class LibraryGameAdded(Event, frozen=True):
    """The person owns the game, by this order."""

    user_id: UUID
    game_id: UUID
    order_id: UUID
    title: str
    purchase_date: datetime


@event("library.game.removed.v1")
class LibraryGameRemoved(Event, frozen=True):
    """The person owns it no longer."""

    game_id: UUID
    order_id: UUID
    reason: str


class Library(msgspec.Struct, frozen=True):
    """`games` maps each owned game to the order that it came by: a hash trie, for it shares all but one entry with the
    library after the next event."""

    user_id: UUID
    games: Mapping[UUID, UUID] = {}

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "games", HashTrieMap.convert(self.games))


def evolve(state: Library | None, event: Event) -> Library | None:
    """The library after one more event."""
    games = HashTrieMap.convert({} if state is None else state.games)
    match state, event:
        case _, LibraryGameAdded():
            return Library(event.user_id, games.insert(event.game_id, event.order_id))
        case Library(), LibraryGameRemoved():
            return Library(state.user_id, games.discard(event.game_id))
    return state


def add(
    library: Library | None, *, user_id: UUID, game_id: UUID, order_id: UUID, title: str, purchase_date: datetime
) -> list[Event]:
    """Grant a game. Raises Conflict("already_owned") when another order brought it before."""
    owned_by = None if library is None else library.games.get(game_id)
    if owned_by == order_id:
        return []
    if owned_by is not None:
        raise Conflict("already_owned", "the game is in the library already")
    return [
        LibraryGameAdded(user_id=user_id, game_id=game_id, order_id=order_id, title=title, purchase_date=purchase_date)
    ]


def remove(library: Library | None, *, game_id: UUID, order_id: UUID, reason: str) -> list[Event]:
    """Take back a game that this order brought; one that came by another order stays."""
    if library is None or library.games.get(game_id) != order_id:
        return []
    return [LibraryGameRemoved(game_id=game_id, order_id=order_id, reason=reason)]
