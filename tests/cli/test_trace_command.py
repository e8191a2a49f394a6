"""`ludoteca trace` says what something waits for."""

from uuid import uuid4

from tests.support.shops.commands import Ludoteca, Shop


def test_what_is_known_of_an_event_is_told(ludoteca: Ludoteca, shop: Shop) -> None:
    game_id = shop.list_game("Braid")
    result = ludoteca("trace", game_id)
    assert result.exit_code == 0, result.output
    assert f"game.created.v1  ({game_id})  by test" in result.stdout
    assert "it waits for nothing: it is done" in result.stdout
    assert ludoteca.json("trace", 1)["waits_for"] == []


def test_an_event_that_no_read_model_can_apply_is_told(ludoteca: Ludoteca, shop: Shop) -> None:
    game_id = shop.poison()
    shop.project()
    waits_for = ludoteca.json("trace", game_id)["waits_for"]
    assert [wait for wait in waits_for if "could not apply game.updated.v1" in wait]


def test_an_id_that_the_log_does_not_have_is_told(ludoteca: Ludoteca, shop: Shop) -> None:
    result = ludoteca("trace", uuid4())
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is in the log" in result.stderr
