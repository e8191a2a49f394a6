"""The games that people own."""

from datetime import datetime
from uuid import UUID

from domain.ids import library_id
from domain.library import LibraryGameAdded, LibraryGameRemoved
from eventstore.log import Envelope
from projections.projection import Projection, Row, Rows, on

__all__ = ["LibraryRow", "OwnedGames", "library_id"]


class LibraryRow(Row):
    """A game in a person's library, whose stream `library_id` is; a removal names only that stream, not the person."""

    KEY = ("library_id", "game_id")
    INDEXES = ("user_id, purchase_date, game_id",)

    library_id: UUID
    game_id: UUID
    user_id: UUID
    order_id: UUID
    title: str
    purchase_date: datetime


def _game_in(event: LibraryGameAdded | LibraryGameRemoved, env: Envelope) -> tuple[UUID, UUID]:
    return env.stream_id, event.game_id


class OwnedGames(Projection[LibraryRow]):
    """Every owned game, by library and game."""

    name, version, row = "library", 1, LibraryRow

    @on(LibraryGameAdded, key=_game_in)
    def added(self, rows: Rows[LibraryRow], event: LibraryGameAdded, env: Envelope) -> None:
        rows.put(
            LibraryRow(
                library_id=env.stream_id,
                game_id=event.game_id,
                user_id=event.user_id,
                order_id=event.order_id,
                title=event.title,
                purchase_date=event.purchase_date,
            )
        )

    @on(LibraryGameRemoved, key=_game_in)
    def removed(self, rows: Rows[LibraryRow], event: LibraryGameRemoved, env: Envelope) -> None:
        rows.delete(_game_in(event, env))
