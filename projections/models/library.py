"""The games that people own."""

from datetime import datetime
from uuid import UUID

from domain.ids import library_id
from domain.library import LibraryGameAdded, LibraryGameRemoved
from eventstore.log import Placed
from projections.projection import NIL, Projection, Row, Rows, on

__all__ = ["OwnedGame", "OwnedGames", "library_id"]


class OwnedGame(Row):
    """A game in a person's library. `library_id` is the library's stream: a removal names only
    that, not the person."""

    KEY = ("library_id", "game_id")
    INDEXES = ("user_id, purchase_date, game_id",)
    INTERNAL = ("library_id", "user_id")

    game_id: UUID
    order_id: UUID
    title: str
    purchase_date: datetime
    library_id: UUID = NIL
    user_id: UUID = NIL


def _game_in(event: LibraryGameAdded | LibraryGameRemoved, env: Placed) -> tuple[UUID, UUID]:
    return env.stream_id, event.game_id


class OwnedGames(Projection[OwnedGame]):
    """Every owned game, by library and game."""

    name, version, row = "library", 1, OwnedGame

    @on(LibraryGameAdded, key=_game_in)
    def added(self, rows: Rows[OwnedGame], event: LibraryGameAdded, env: Placed) -> None:
        rows.put(
            OwnedGame(
                library_id=env.stream_id,
                game_id=event.game_id,
                user_id=event.user_id,
                order_id=event.order_id,
                title=event.title,
                purchase_date=event.purchase_date,
            )
        )

    @on(LibraryGameRemoved, key=_game_in)
    def removed(self, rows: Rows[OwnedGame], event: LibraryGameRemoved, env: Placed) -> None:
        rows.delete(_game_in(event, env))
