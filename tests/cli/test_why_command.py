"""`ludoteca audit why` explains figures."""

from uuid import UUID

from domain.catalog import GameUpdated
from tests.support.shops.commands import Ludoteca, Shop


def _renamed(shop: Shop) -> UUID:
    game_id = shop.list_game("Braid")
    shop.append(game_id, 1, GameUpdated(title="Celeste"))
    return game_id


def test_the_events_that_made_a_figure_are_shown(ludoteca: Ludoteca, shop: Shop) -> None:
    game_id = _renamed(shop)
    result = ludoteca("audit", "why", f"{game_id}.title", "--model", "games")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f'games {game_id}: title = "Celeste" as of position 2'
    assert '"Braid" → "Celeste"' in lines
    assert "  by test" in lines
    report = ludoteca.json("audit", "why", f"{game_id}.prices.0.amount_cents", "--model", "games")
    assert (report["value"], len(report["steps"])) == (1999, 1)


def test_a_past_moment_is_a_position_or_a_time(ludoteca: Ludoteca, shop: Shop) -> None:
    game_id = _renamed(shop)

    def at(moment: str, code: int = 0) -> str:
        result = ludoteca("audit", "why", f"{game_id}.title", "--model", "games", "--as-of", moment)
        assert result.exit_code == code, result.output
        return " ".join((result.stdout + result.stderr).split())

    assert 'title = "Braid" as of position 1' in at("1")
    assert 'title = "Celeste"' in at("9999-12-31T23:59:59Z")
    assert "had no row" in at("2000-01-01T00:00:00Z", 1)
    assert "the log ends at position 2, before 3" in at("3", 1)
    assert "neither a position" in at("yesterday", 2)
    assert "neither a position" in at("2000-01-01T00:00:00", 2)


def test_an_unknown_name_is_answered_with_the_known_ones(ludoteca: Ludoteca, shop: Shop) -> None:
    game_id = _renamed(shop)
    for figure, options, code, said in (
        ("title", (), 2, "is not ID.FIELD"),
        (f"{game_id}.titel", ("--model", "games"), 2, "games has:"),
        (f"{game_id}.title", ("--model", "gmaes"), 2, "there are: acts"),
        (f"{game_id}.titel", (), 2, "no field titel; games has:"),
        (f"{game_id}.title", (), 2, "name one"),
        (f"{UUID(int=1)}.title", ("--model", "games"), 1, "had no row"),
    ):
        result = ludoteca("audit", "why", figure, *options)
        assert (result.exit_code, result.stdout) == (code, ""), result.output
        assert said in " ".join(result.stderr.split())
