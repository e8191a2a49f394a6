"""How often each game was sold, for lists of what sells best."""

from uuid import UUID

from domain.ids import stock_id
from domain.inventory import ReservationFulfilled, StockCreated
from domain.library import LibraryGameAdded, LibraryGameRemoved
from eventstore.log import Placed
from projections.projection import NIL, Key, Projection, Row, Rows, on


class GameSales(Row):
    """A game and how many of it were sold: of a digital one those that are in libraries, of a
    physical one the units that left the stock for a paid order.

    `item_id` is the id that the game's stock has, or would have: a sold unit names only that.
    """

    KEY = ("item_id",)
    INDEXES = ("sold, game_id", "game_id")
    INTERNAL = ("item_id",)

    game_id: UUID
    sold: int
    item_id: UUID = NIL


def _item(event: LibraryGameAdded | LibraryGameRemoved, _: Placed) -> UUID:
    return stock_id(event.game_id)


class SoldGames(Projection[GameSales]):
    """Every game that was sold, or has a stock."""

    name, version, row = "game_sales", 1, GameSales

    def streams_of(self, key: Key) -> None:  # noqa: ARG002 - whatever the game
        """None: anybody's library may have it."""
        return

    @on(LibraryGameAdded, key=_item)
    def added(self, rows: Rows[GameSales], event: LibraryGameAdded, env: Placed) -> None:
        item_id = _item(event, env)
        if rows.get(item_id) is None:
            rows.put(GameSales(event.game_id, 0, item_id))
        rows[item_id].sold += 1

    @on(LibraryGameRemoved, key=_item)
    def removed(self, rows: Rows[GameSales], event: LibraryGameRemoved, env: Placed) -> None:
        rows[_item(event, env)].sold -= 1

    @on(StockCreated)
    def stocked(self, rows: Rows[GameSales], event: StockCreated, env: Placed) -> None:
        if rows.get(env.stream_id) is None:
            rows.put(GameSales(event.game_id, 0, env.stream_id))

    @on(ReservationFulfilled)
    def sent(self, rows: Rows[GameSales], event: ReservationFulfilled, env: Placed) -> None:
        rows[env.stream_id].sold += event.quantity
