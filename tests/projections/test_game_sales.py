"""How often each game was sold."""

from uuid import UUID

from domain.ids import library_id, stock_id
from domain.inventory import ReservationFulfilled, StockCreated
from domain.library import LibraryGameRemoved
from projections.models.game_sales import SoldGames
from tests.support.events.history import GAME, ORDER, SELLER, History, game_added, some_id


def sold(history: History) -> dict[UUID, int]:
    return {row.game_id: row.sold for row in SoldGames().fold(history.events).all()}


def test_a_digital_game_counts_in_each_library_that_has_it() -> None:
    history = History()
    for name in ("ann", "bob", "cid"):
        user = some_id(name)
        history.happened(library_id(user), game_added(user_id=user))
    history.happened(library_id(some_id("bob")), LibraryGameRemoved(GAME, ORDER, "refunded"))
    assert sold(history) == {GAME: 2}


def test_of_a_physical_game_the_units_count() -> None:
    stock = stock_id(GAME)
    history = History().happened(
        stock,
        StockCreated(GAME, SELLER, "CATAN"),
        ReservationFulfilled(some_id("one"), ORDER, 3),
        ReservationFulfilled(some_id("two"), some_id("other order"), 1),
    )
    assert sold(history) == {GAME: 4}
