"""A person's library: the games they own, each at most once, and each by the order that paid for
it.

The stream's id is derived from the person's (`domain.ids.library_id`). Adding and removing are
idempotent per order.
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
    """The person acquired the game through this order."""

    user_id: UUID
    game_id: UUID
    order_id: UUID
    title: str
    purchase_date: datetime


@event("library.game.removed.v1")
class LibraryGameRemoved(Event, frozen=True):
    """The person no longer owns the game that this order had brought."""

    game_id: UUID
    order_id: UUID
    reason: str


class Library(msgspec.Struct, frozen=True):
    """`games` maps each owned game to its order. It is a hash trie, so that the states before and
    after an event share all other entries."""

    user_id: UUID
    games: Mapping[UUID, UUID] = {}

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "games", HashTrieMap.convert(self.games))


def evolve(state: Library | None, event: Event) -> Library | None:
    games = HashTrieMap.convert({} if state is None else state.games)
    match state, event:
        case _, LibraryGameAdded():
            return Library(event.user_id, games.insert(event.game_id, event.order_id))
        case Library(), LibraryGameRemoved():
            return Library(state.user_id, games.discard(event.game_id))
    return state


def add(
    library: Library | None,
    *,
    user_id: UUID,
    game_id: UUID,
    order_id: UUID,
    title: str,
    purchase_date: datetime,
) -> list[Event]:
    """Grant a game. Idempotent per order. Raises Conflict("already_owned") when another order
    brought it before."""
    owned_by = None if library is None else library.games.get(game_id)
    if owned_by == order_id:
        return []
    if owned_by is not None:
        raise Conflict("already_owned", "the game is already in the library")
    return [
        LibraryGameAdded(
            user_id=user_id,
            game_id=game_id,
            order_id=order_id,
            title=title,
            purchase_date=purchase_date,
        )
    ]


def remove(library: Library | None, *, game_id: UUID, order_id: UUID, reason: str) -> list[Event]:
    """Remove a game that this order brought. No-op when it came with another order."""
    if library is None or library.games.get(game_id) != order_id:
        return []
    return [LibraryGameRemoved(game_id=game_id, order_id=order_id, reason=reason)]
