from domain import library
from domain.errors import Conflict
from domain.events import Event
from domain.library import Library, LibraryGameAdded, LibraryGameRemoved, evolve
from tests.support.given_when_then import NOON, an_id, fold, given, when

USER, GAME, ORDER = an_id("user"), an_id("game"), an_id("order")


def added(game: str = "game", order: str = "order") -> LibraryGameAdded:
    return LibraryGameAdded(
        user_id=USER,
        game_id=an_id(game),
        order_id=an_id(order),
        title=game.title(),
        purchase_date=NOON,
    )


def add(to: Library | None, game: str = "game", order: str = "order") -> list[Event]:
    return library.add(
        to,
        user_id=USER,
        game_id=an_id(game),
        order_id=an_id(order),
        title=game.title(),
        purchase_date=NOON,
    )


REMOVED = LibraryGameRemoved(game_id=GAME, order_id=ORDER, reason="refunded")


def test_the_first_game_opens_the_library() -> None:
    when(lambda: add(None)).then(added())


def test_a_game_added_again_by_its_order_changes_nothing() -> None:
    given(evolve, added()).when(add).then_nothing()


def test_a_game_owned_by_another_order_is_refused() -> None:
    given(evolve, added()).when(lambda lib: add(lib, order="second")).then_refused(
        Conflict, "already_owned"
    )


def test_games_add_up() -> None:
    owned = fold(evolve, added(), added("chess", "second"))
    assert owned == Library(USER, {GAME: ORDER, an_id("chess"): an_id("second")})


def test_a_refunded_game_leaves() -> None:
    given(evolve, added(), added("chess")).when(
        lambda lib: library.remove(lib, game_id=GAME, order_id=ORDER, reason="refunded")
    ).then(REMOVED)
    assert list(fold(evolve, added(), added("chess"), REMOVED).games) == [an_id("chess")]


def test_a_game_that_came_by_another_order_stays() -> None:
    given(evolve, added()).when(
        lambda lib: library.remove(lib, game_id=GAME, order_id=an_id("second"), reason="refunded")
    ).then_nothing()


def test_removing_twice_changes_nothing() -> None:
    given(evolve, added(), REMOVED).when(
        lambda lib: library.remove(lib, game_id=GAME, order_id=ORDER, reason="refunded")
    ).then_nothing()
    when(
        lambda: library.remove(None, game_id=GAME, order_id=ORDER, reason="refunded")
    ).then_nothing()


def test_a_game_that_left_can_be_bought_again() -> None:
    given(evolve, added(), REMOVED).when(lambda lib: add(lib, order="second")).then(
        added(order="second")
    )
